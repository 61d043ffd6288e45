"""borg's command lines that are no command lines: our reader gives an answer to all of them, and soon."""

from __future__ import annotations

import os
import random
import resource
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from borg_lvm.plugins.backup_command import Invocation
from borg_lvm_hooks.commands.borg import plugin as borg
from borg_lvm_hooks.commands.borg import reading as borg_reading
from tests.fuzz import Figures
from tests.fuzz.borg_grammar import Grammar, write_files

LONGEST = 2.0
LARGEST = 100 << 10  # KiB
PIECES = (
    "\0",
    "\ud800",
    "\udcff",
    "-",
    "--",
    "=",
    "/",
    "..",
    "::",
    "{",
    "}",
    "\n",
    "\x0b",
    "\u2028",
    " ",
    "R ",
    "'",
    "[",
)
WORDS = ("create", "with-lock", "borg", "r::a", "-", "--", "nice", "env", "/srv", "--patterns-from", "--pattern", "-n")
FILES = ("garbage", "pipe", "none", ".", "/dev/zero", "/dev/tty", "/no/such", "garbage/x")


def _word(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.choice(WORDS + FILES)
    return "".join(chance.choice(PIECES + WORDS) for _ in range(chance.randrange(1, 5)))


def _garbage(chance: random.Random) -> bytes:
    pieces = (b"R ", b"r\t", b"\n", b"\r", b"\0", b"\xff", b"/x", b"# ", b"R", b"\xe2\x80\xa8", b"P sh", b"- *", b" ")
    return b"".join(chance.choice(pieces) for _ in range(chance.randrange(40)))


def _line(chance: random.Random, grammar: Grammar) -> list[str]:
    line = grammar.line(two=chance.random() < 0.5) if chance.random() < 0.5 else ["create", "r::a"]
    for _ in range(chance.randrange(1, 6)):
        line.insert(chance.randrange(len(line) + 1), _word(chance))
    if chance.random() < 0.5:
        line += ["--patterns-from", chance.choice(FILES)]
    if chance.random() < 0.01:
        line *= chance.randrange(2, 400)
    return line


def run(cases: int, seed: int) -> Figures:
    """Read so many lines; no program judges them."""
    chance, faults = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="borg-lvm-fuzz-") as top:
        write_files(Path(top))
        os.mkfifo(f"{top}/pipe")
        grammar = Grammar(chance, top)
        for _ in range(cases):
            Path(top, "garbage").write_bytes(_garbage(chance))
            line = _line(chance, grammar)
            began, size = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                # Of no such program nobody can ask for its version.
                borg.borg_lvm_read_command(Invocation(("/no/such/borg", *line), {"HOME": "/root", "PATH": "\0"}, top))
                with suppress(ValueError):  # a quotation mark that is not closed
                    borg_reading.extra_options(" ".join(line))
            except Exception as error:
                faults.append(f"{line}: {error!r}")
            if time.process_time() - began > LONGEST:
                faults.append(f"{line[:20]}: took {time.process_time() - began:.1f} s")
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size > LARGEST:
                faults.append(f"{line[:20]}: took over 100 MiB")
    return Figures(cases, 0, 0, 0, tuple(faults))
