"""Which processes a program starts, and which programs they run, as strace sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.support.runs import program

_STARTED = re.compile(r"^(?:clone3?|v?fork)\((.*)\) += ([0-9]+)$")
_BECAME = re.compile(r'^execve\("([^"]*)", \[(.*)\], .*\) += 0$')


@dataclass
class Process:
    """A process: the programs that it ran one after the other, and the processes and threads that it started."""

    pid: int
    ran: list[tuple[str, str]] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    @property
    def program(self) -> str:
        """The name of the last program that it ran; empty for a fork that stayed what its parent was."""
        return Path(self.ran[-1][0]).name if self.ran else ""


def traced(argv: Sequence[str | Path], into: Path) -> list[Process]:
    """Run a program to its end and return all its processes, itself first; its threads start none."""
    into.mkdir()
    calls = "trace=execve,clone,clone3,fork,vfork"
    program.run("strace", "-ff", "-qq", "--seccomp-bpf", "-s", "500", "-e", calls, "-o", into / "calls", *argv)
    found = {}
    for file in into.glob("calls.*"):
        found[int(file.suffix[1:])] = _read(file)
    children = {pid for process in found.values() for pid in (*process.started, *process.threads)}
    first = next(pid for pid in found if pid not in children)
    return [found[pid] for pid in _tree(found, first)]


def without(processes: Sequence[Process], program_name: str) -> list[Process]:
    """Leave out the first process that ran a program of this name, with all its descendants."""
    known = {process.pid: process for process in processes}
    command = next(process.pid for process in processes if process.program == program_name)
    inside = set(_tree(known, command))
    return [process for process in processes if process.pid not in inside]


def _read(file: Path) -> Process:
    process = Process(int(file.suffix[1:]))
    for line in file.read_text(errors="replace").splitlines():
        if match := _STARTED.match(line):
            (process.threads if "CLONE_THREAD" in match[1] else process.started).append(int(match[2]))
        elif match := _BECAME.match(line):
            process.ran.append((match[1], match[2]))
    return process


def _tree(known: dict[int, Process], first: int) -> list[int]:
    result = [first]
    for pid in known[first].started:
        if pid in known:
            result += _tree(known, pid)
    return result
