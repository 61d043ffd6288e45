"""What all fuzzers of command lines have in common: a case is a line, the program's reading of it, and ours."""

from __future__ import annotations

import os
import random
import resource
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import Figures

LONGEST = 2.0
"""Seconds of processor time that reading one line may take."""
TOGETHER = 100
"""How many programs one shell starts."""
PATIENCE = 60.0
"""Seconds after which a program has no end."""
MOST_MEMORY = 100 << 10
"""KiB by which reading one line may raise the process's peak."""


@dataclass(frozen=True)
class Judged:
    """A reading: the program's own or ours. `None` for the roots: the line was not accepted.

    `partial`: the program failed, having read these; we may refuse such a line, but not leave one of them out.
    """

    roots: frozenset[str] | None
    detail: str = ""
    partial: bool = False


@dataclass(frozen=True)
class Fuzzer:
    """How lines of one program are made (`grammar`), judged by the program, and read by us.

    `same` tells whether both readings agree. `seeds` are lines that once went wrong; they are always tried first.
    `program` judges all lines, in their order.
    """

    grammar: Callable[[random.Random], list[str]]
    program: Callable[[Sequence[list[str]]], Sequence[Judged]]
    ours: Callable[[list[str]], Judged]
    seeds: Sequence[Sequence[str]] = ()
    same: Callable[[Judged, Judged], bool] = field(default=lambda theirs, ours: theirs.roots == ours.roots)

    def run(self, cases: int, seed: int) -> tuple[Figures, tuple[str, ...]]:
        """Try so many lines; returns the figures, and a sentence for each line that was refused or misread."""
        rng = random.Random(seed)
        lines = [list(line) for line in self.seeds]
        lines += [self.grammar(rng) for _ in range(max(0, cases - len(lines)))]
        judged = self.program(lines)
        accepted = refused = missed = 0
        faults: list[str] = []
        told: list[str] = []
        for line, theirs in zip(lines, judged, strict=True):
            ours = self._read(line, faults)
            if theirs.roots is None or ours is None:
                continue
            accepted += not theirs.partial
            if ours.roots is None:
                if theirs.partial:
                    continue
                refused += 1
                told.append(f"refused: {line}: {ours.detail}")
            elif not (theirs.roots <= ours.roots if theirs.partial else self.same(theirs, ours)):
                missed += 1
                told.append(f"misread: {line}: {theirs} is not {ours}")
        return Figures(len(lines), accepted, refused, missed, tuple(faults)), tuple(told)

    def _read(self, line: list[str], faults: list[str]) -> Judged | None:
        begin, peak = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            reading = self.ours(line)
        except Exception as error:
            faults.append(f"{line}: {error!r}")
            return None
        if time.thread_time() - begin > LONGEST:
            faults.append(f"{line}: took more than {LONGEST} s")
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak > MOST_MEMORY:
            faults.append(f"{line}: took more than {MOST_MEMORY} KiB")
        return reading


def one_by_one(program: Callable[[list[str]], Judged]) -> Callable[[Sequence[list[str]]], Sequence[Judged]]:
    """Return what judges all lines by judging each, two at a time."""

    def judge(lines: Sequence[list[str]]) -> Sequence[Judged]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(program, lines))

    return judge


def call_all(lines: Sequence[Sequence[str]], cwd: str, env: Mapping[str, str]) -> list[tuple[str, str]]:
    """Run programs one after the other; returns what each and all that it has started printed, and its errors.

    One shell starts many of them: Python takes longer for a process than nice(1) does. One that has no end has
    printed nothing.
    """
    said: list[tuple[str, str]] = []
    for at in range(0, len(lines), TOGETHER):
        some = lines[at : at + TOGETHER]
        said += _called(some, cwd, env) or [call(line, cwd, env)[1:] for line in some]
    return said


def _called(lines: Sequence[Sequence[str]], cwd: str, env: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """Run these below one shell; returns None if they have not come to an end in time."""
    with tempfile.TemporaryDirectory() as place:
        calls = [
            f"( exec {shlex.join(line)} ) </dev/null >{place}/{at}.out 2>{place}/{at}.err"
            for at, line in enumerate(lines)
        ]
        hear, tell = os.pipe()  # who has it open has not ended: also what `setsid --fork` has left behind
        with subprocess.Popen(
            ["sh"], cwd=cwd, env=env, stdin=subprocess.PIPE, pass_fds=[tell], start_new_session=True
        ) as shell:
            os.close(tell)
            assert shell.stdin
            shell.stdin.write("\n".join(calls).encode() + b"\n")
            shell.stdin.close()
            ended = bool(select.select([hear], [], [], PATIENCE)[0])
            os.close(hear)
            if not ended:
                os.killpg(shell.pid, signal.SIGKILL)
                return None
        read = [(Path(place, f"{at}.out"), Path(place, f"{at}.err")) for at in range(len(lines))]
        return [(os.fsdecode(out.read_bytes()), os.fsdecode(err.read_bytes())) for out, err in read]


def call(argv: Sequence[str], cwd: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a program to its end; returns its status and what it printed. One that has no end has printed nothing."""
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, "", ""
    return done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)
