"""What all fuzzers of command lines have in common: a case is a line, the program's reading of it, and ours."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.fuzz import Figures

LONGEST = 2.0
"""Seconds of processor time that reading one line may take."""
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
    """

    grammar: Callable[[random.Random], list[str]]
    program: Callable[[list[str]], Judged]
    ours: Callable[[list[str]], Judged]
    seeds: Sequence[Sequence[str]] = ()
    same: Callable[[Judged, Judged], bool] = field(default=lambda theirs, ours: theirs.roots == ours.roots)

    def run(self, cases: int, seed: int) -> tuple[Figures, tuple[str, ...]]:
        """Try so many lines; returns the figures, and a sentence for each line that was refused or misread."""
        rng = random.Random(seed)
        lines = [list(line) for line in self.seeds]
        lines += [self.grammar(rng) for _ in range(max(0, cases - len(lines)))]
        with ThreadPoolExecutor(2) as pool:
            judged = list(pool.map(self.program, lines))
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


def call(argv: Sequence[str], cwd: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a program to its end; returns its status and what it printed. One that has no end has printed nothing."""
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, "", ""
    return done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)
