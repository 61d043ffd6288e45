"""What the demo shows, at most 100 columns wide."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH = 96
KEPT = 3  # lines of a kind that repeats, before the rest is only counted


def heading(text: str) -> None:
    """Begin a part."""
    say(f"\n{text}\n{'─' * len(text)}")


def say(text: str = "") -> None:
    """Print a line, or several."""
    print(text, flush=True)


def tell(text: str) -> None:
    """Print a paragraph."""
    say(textwrap.fill(" ".join(text.split()), WIDTH))


def table(rows: Sequence[tuple[str, str, str]]) -> None:
    """Print three columns, the first row as their heads."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for number, (name, left, right) in enumerate(rows):
        say(f"  {name:{widths[0]}}   {left:>{widths[1]}}   {right:>{widths[2]}}".rstrip())
        if not number:
            say("  " + "─" * (sum(widths) + 6))


def typed(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[int, float]:
    """Show a command line and all that it writes; return its status and how many seconds it took."""
    say(f"\n  $ {shlex.join(argv)}")
    began = time.monotonic()
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        alike: dict[str, int] = {}
        for line in process.stdout:
            kind = re.sub(r"[0-9]+", "#", line)
            alike[kind] = alike.get(kind, 0) + 1
            if alike[kind] <= KEPT:
                for part in textwrap.wrap(line.rstrip(), WIDTH - 4, subsequent_indent="    ") or [""]:
                    say(f"  │ {part}".rstrip())
    hidden = sum(max(0, times - KEPT) for times in alike.values())
    if hidden:
        say(f"  │ … and {hidden} more such lines")
    return process.returncode, time.monotonic() - began


def quietly(argv: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
    """Run a command that is of no interest; if it fails, show what it wrote and stop."""
    done = subprocess.run(argv, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode not in (0, 1):  # 1: a warning of borg
        sys.exit(f"{shlex.join(argv)} ended with status {done.returncode}:\n{(done.stdout + done.stderr).decode()}")
