"""borg's command lines: our reader beside the parsers of all borgs that are installed here, on random lines."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from borg_lvm.plugins.backup_command import Invocation, Reading
from borg_lvm_hooks.commands.borg import plugin as borg
from tests.fuzz import Figures
from tests.fuzz.borg_front import Front
from tests.fuzz.borg_grammar import SEEDS, Grammar, write_files

JUDGE = Path(__file__).with_name("borg_judge.py")
LONGEST = 2.0
LARGEST = 100 << 10  # KiB
TOGETHER = 40
"""How many lines each borg reads while we read them, too."""
EACH = 20
"""of the lines is also given to the front, which is a shell script and takes longer."""


def installed() -> list[tuple[str, str]]:
    """Return each installed borg and the Python that runs it."""
    own = os.path.dirname(sys.executable)
    found: dict[str, str] = {}
    for directory in (own, *os.environ.get("PATH", "").split(os.pathsep), "/usr/bin"):
        for name in ("borg", "borg2"):
            path = os.path.realpath(os.path.join(directory, name))
            if os.access(path, os.X_OK) and path not in found:
                with open(path, "rb") as file:
                    line = os.fsdecode(file.readline(1000)).strip()
                if line.startswith("#!") and "python" in line:
                    found[path] = line[2:].split()[0]
    return list(found.items())


@dataclass
class Judge:
    """The parser of one installed borg, in a process of its own."""

    program: str
    process: subprocess.Popen[str]
    version: str = ""

    def named(self, argv: list[str]) -> list[str]:
        """Return a line in which `with-lock` runs this borg again: Debian's borg 2 is called borg2, beside a borg 1."""
        own = os.path.basename(self.program)
        return [own if word == "borg" else word for word in argv]

    def ask(self, argvs: Sequence[list[str]], cwd: str) -> None:
        """Have some lines read: so few of them that a pipe takes them and their answers."""
        assert self.process.stdin
        self.process.stdin.writelines(json.dumps({"argv": argv, "cwd": cwd}) + "\n" for argv in argvs)
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any] | None:
        """Return what this borg reads in the next one of them, None if it refuses it."""
        assert self.process.stdout
        answer: dict[str, Any] | None = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def judges() -> Iterator[list[Judge]]:
    """Start the parsers of all installed borgs; one that cannot be asked is left out."""
    with ExitStack() as stack:
        started = []
        for program, python in installed():
            argv = [python, "-I", str(JUDGE), os.path.basename(program)]
            pipe = subprocess.PIPE
            process = stack.enter_context(subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True))
            stack.callback(process.kill)
            assert process.stdout
            line = process.stdout.readline()
            if line:
                started.append(Judge(program, process, json.loads(line)))
        yield started


@dataclass
class Count:
    """What was counted so far."""

    cases: int = 0
    accepted: int = 0
    refused: int = 0
    missed: int = 0
    locked: Counter[str] = field(default_factory=Counter)
    """How many lines of each release were `with-lock` with that borg again."""
    faults: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def figures(self) -> Figures:
        """Return the figures; the first lines that were missed are told as faults."""
        return Figures(self.cases, self.accepted, self.refused, self.missed, tuple(self.faults))


def compare_all(count: Count, asked: Sequence[Judge], lines: Sequence[list[str]], cwd: str, front: Front) -> None:
    """Give each line to one judge, in turns, and compare; they read while we do."""
    lines = [asked[at % len(asked)].named(line) for at, line in enumerate(lines)]
    for at, judge in enumerate(asked):
        judge.ask(lines[at :: len(asked)], cwd)
    readings = [read(count, asked[at % len(asked)], line, cwd) for at, line in enumerate(lines)]
    for at, (line, reading) in enumerate(zip(lines, readings, strict=True)):
        count.cases += 1
        compare(count, asked[at % len(asked)], line, reading, None if count.cases % EACH else front)


def compare(count: Count, judge: Judge, argv: list[str], reading: Reading | None, front: Front | None) -> None:
    """Put our reading of a line beside a borg's, and what the front makes of it."""
    truth = judge.answer()
    if front and truth and truth.get("roots") and not truth["dry_run"] and front.is_plain(argv):
        count.missed += 1
        count.faults.append(f"borg {judge.version}: {argv}: the front leaves it to plain borg")
    if truth is None or reading is None or truth["action"] == "with-lock" or truth.get("elsewhere"):
        return
    count.accepted += 1
    count.locked[judge.version] += "runs" in truth
    roots = set(truth.get("roots", ()))
    if reading.problems and not reading.no_paths:
        count.refused += 1
        count.told.append(f"borg {judge.version} takes {argv}: {reading.problems[0]}")
    elif said := wrong(reading, truth, roots):
        count.missed += 1
        count.faults.append(f"borg {judge.version}: {argv}: {said}")


def wrong(reading: Reading, truth: dict[str, Any], roots: set[str]) -> str:
    """Say what our reading has that borg's has not."""
    ours = {os.path.abspath(source) for source in reading.sources}
    if ours != roots or (reading.no_paths and roots):
        return f"we read {sorted(ours)}, borg {sorted(roots)}"
    if truth["action"] != "create":
        return ""
    for name in ("dry_run", "one_file_system"):
        if roots and getattr(reading, name) != truth[name]:
            return f"{name} is {truth[name]}"
    return ""


def read(count: Count, judge: Judge, argv: list[str], cwd: str) -> Reading | None:
    """Read a line with our reader; what goes wrong is a fault."""
    began, size = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        env = {"HOME": "/root", "PATH": os.path.dirname(judge.program), "BORG_CONFIG_DIR": "/no/such/directory"}
        reading = borg.borg_lvm_read_command(Invocation((judge.program, *argv), env, cwd))
    except Exception as error:
        count.faults.append(f"{argv}: {error!r}")
        return None
    if time.process_time() - began > LONGEST:
        count.faults.append(f"{argv}: took {time.process_time() - began:.1f} s")
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size > LARGEST:
        count.faults.append(f"{argv}: took over 100 MiB")
    return reading


def run(cases: int, seed: int) -> Figures:
    """Compare until the installed borgs have accepted so many lines together."""
    count = Count()
    with tempfile.TemporaryDirectory(prefix="borg-lvm-fuzz-") as top, judges() as asked:
        cwd = os.path.realpath(top)
        front = Front(Path(cwd, "front"))
        write_files(Path(cwd))
        compare_all(count, asked, [line for line in SEEDS for _ in asked], cwd, front)
        grammar = Grammar(random.Random(seed), cwd)
        while asked and count.accepted < cases:
            lines = [grammar.line(two=judge.version.startswith("2")) for _ in range(TOGETHER) for judge in asked]
            compare_all(count, asked, lines, cwd, front)
        count.faults += [f"borg {one.version}: no line of with-lock" for one in asked if not count.locked[one.version]]
    if os.environ.get("BORG_LVM_FUZZ_REFUSED"):
        print("\n".join(count.told))
    return count.figures()
