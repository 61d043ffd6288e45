"""What the demo prints: plain ASCII, as wide as the terminal, and 96 columns at most."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

KEPT = 3  # lines of a kind that repeats, before the rest is only counted
LEAST, MOST = 30, 96


def width() -> int:
    """Return how many columns to use. The lab knows how wide the terminal is; we write to a pipe."""
    try:
        return min(MOST, max(LEAST, int(os.environ["BORG_LVM_LAB_COLUMNS"]) - 1))
    except (KeyError, ValueError):
        return 80


def heading(text: str) -> None:
    """Begin a part."""
    lines = textwrap.wrap(text, width())
    say("\n" + "\n".join(lines) + "\n" + "-" * max(map(len, lines)))


def say(text: str = "") -> None:
    """Print a line, or several."""
    print(text, flush=True)


def paragraph(text: str, indent: str = "") -> None:
    """Print a paragraph."""
    words = " ".join(text.split())
    say(textwrap.fill(words, width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False))


def listed(entries: Mapping[str, str]) -> None:
    """Print names and beside them what they mean; below them where there is no room."""
    space = max(map(len, entries)) + 4
    for name, text in entries.items():
        if space + 30 > width():
            paragraph(name, "  ")
            paragraph(text, "      ")
        else:
            first, *others = textwrap.wrap(text, width() - space)
            say("\n".join([f"  {name:{space - 2}}{first}", *(" " * space + line for line in others)]))


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of a name and values, the first row as their heads; one below the other where they are too wide."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    if sum(widths) + 3 * len(widths) > width():
        _stacked(rows)
        return
    for number, (name, *cells) in enumerate(rows):
        values = "".join(f"   {cell:>{space}}" for cell, space in zip(cells, widths[1:], strict=True))
        say(f"  {name:{widths[0]}}{values}".rstrip())
        if not number:
            say("  " + "-" * (sum(widths) + 3 * (len(widths) - 1)))


def _stacked(rows: Sequence[Sequence[str]]) -> None:
    (_, *heads), *others = rows
    space = max(map(len, heads))
    for name, *cells in others:
        paragraph(name)
        for head, cell in zip(heads, cells, strict=True):
            say(f"  {head:{space}}  {cell}")


def command_line(argv: Sequence[str]) -> list[str]:
    """Return a command line as it is typed, in lines that fit."""
    lines = [f"  $ {argv[0]}"]
    for word in map(shlex.quote, argv[1:]):
        if len(lines[-1]) + len(word) + 3 > width():
            lines[-1] += " \\"
            lines.append(f"      {word}")
        else:
            lines[-1] += f" {word}"
    return lines


def typed(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[int, float, str]:
    """Show a command line and what it writes; return its status, how many seconds it took, and all that it wrote."""
    say("\n" + "\n".join(command_line(argv)))
    began = time.monotonic()
    with subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout
        alike: dict[str, int] = {}
        lines = []
        for line in process.stdout:
            lines.append(line)
            kind = re.sub(r"[0-9]+", "#", line)
            alike[kind] = alike.get(kind, 0) + 1
            if alike[kind] <= KEPT or not line.strip():
                for part in textwrap.wrap(line.rstrip(), width() - 4, subsequent_indent="    ") or [""]:
                    say(f"  | {part}".rstrip())
    hidden = sum(max(0, times - KEPT) for kind, times in alike.items() if kind.strip())
    if hidden:
        say(f"  | ... and {hidden} more such lines")
    return process.returncode, time.monotonic() - began, "".join(lines)


def quietly(argv: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
    """Run a command that is of no interest; if it fails, show what it wrote and stop."""
    done = subprocess.run(argv, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode not in (0, 1):  # 1: a warning of borg
        said = os.fsdecode(done.stdout + done.stderr)
        sys.exit(f"demo: {shlex.join(argv)} ended with status {done.returncode}:\n{said}")
