"""Asks about strangers' processes, any of which may see to it that the answer never comes.

Who reads a process's maps or its command line waits for a lock of that process's; and its user can have it held for as
long as they like: by reading the process's memory where a page of a file system of their own lies (FUSE in a user
namespace), which they never deliver. So a child asks. It is killed when it does not get on, and another one goes on
behind what it was at.
"""

from __future__ import annotations

import io
import mmap
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from borg_lvm.linux import syscalls
from borg_lvm.records import dataclass

PATIENCE = 0.5
"""Seconds that one answer may take: they take less than a thousandth, and the processors may be busy."""
MOST = 10
"""How many are waited for like this; each further one gets less, for a stranger may have thousands."""
LITTLE = 0.02
ALTOGETHER = 60.0
"""Seconds after which all that is left counts as silent."""
MOST_YIELDED = 16 << 20
"""How many bytes are read of what a child writes."""
_NO, _YES = 1, 2
T = TypeVar("T")


@dataclass(frozen=True)
class Answers:
    """For which numbers the answer was yes, and for which there was none."""

    yes: list[int]
    silent: list[int]


def answers(ask: Callable[[int], bool], numbers: Sequence[int], patience: float = PATIENCE) -> Answers:
    """Ask about each number in a child; an OSError stands for no. Never takes longer than about ALTOGETHER.

    `patience` is in seconds, for each. The child has no descriptors; what `ask` changes in it is lost.
    """
    if not numbers:
        return Answers([], [])
    silent: list[int] = []
    end = time.monotonic() + ALTOGETHER
    with mmap.mmap(-1, len(numbers)) as marks:  # shared with the child
        at = 0
        while at < len(numbers):
            if time.monotonic() > end:
                silent += numbers[at:]
                break
            at = _asked(ask, numbers, marks, at, patience if len(silent) < MOST else LITTLE)
            if at < len(numbers):
                silent.append(numbers[at])
                at += 1
        said = marks[:]
    return Answers([number for number, mark in zip(numbers, said, strict=True) if mark == _YES], silent)


def _asked(ask: Callable[[int], bool], numbers: Sequence[int], marks: mmap.mmap, begin: int, patience: float) -> int:
    """Have a child ask, from there on; return where it stands when it has ended, or does not get on any more."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(ask, numbers, marks, begin, write_end)
    os.close(write_end)
    try:
        return _heard(read_end, marks, begin, patience)
    finally:
        os.close(read_end)
        _end(pid)


def _heard(pipe: int, marks: mmap.mmap, at: int, patience: float) -> int:
    since = time.monotonic()
    while True:
        ended = bool(select.select([pipe], [], [], patience / 4)[0])
        now, before = time.monotonic(), at
        unmarked = marks.find(b"\0", at)
        at = unmarked if unmarked >= 0 else len(marks)
        if ended or at == len(marks):
            return at
        if at != before:
            since = now
        elif now - since > patience:
            return at


def _end(pid: int) -> None:
    """Kill the child. What waits for a file system's answer may not die of that: then it is left, for it does no harm.

    It has none of our descriptors: no lock, and nobody's standard error.
    """
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    with suppress(ChildProcessError):
        while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < end:
            time.sleep(0.005)


def yielded(work: Callable[[], Iterable[T]], seconds: float) -> list[T]:
    """Do work in a child; return what it has yielded, which must be such as can be pickled, in so many seconds.

    It may wait for a file system that no signal has it give up: then it is left behind, without our descriptors.
    """
    import pickle

    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _alone(write_end, lambda: _write(write_end, work))
    os.close(write_end)
    try:
        data = io.BytesIO(_received(read_end, seconds))
    finally:
        os.close(read_end)
        _end(pid)
    answers: list[T] = []
    with suppress(EOFError, pickle.UnpicklingError):
        while True:
            answers.append(pickle.load(data))  # noqa: S301 - our own child's
    return answers


def _received(pipe: int, seconds: float) -> bytes:
    """Return all that comes in so many seconds."""
    end, data = time.monotonic() + seconds, bytearray()
    while len(data) <= MOST_YIELDED and select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
        more = os.read(pipe, 1 << 16)
        if not more:
            break
        data += more
    return bytes(data)


def _write(pipe: int, work: Callable[[], Iterable[object]]) -> None:
    import pickle

    for _ in range(3):  # programs that it starts have them
        os.open("/dev/null", os.O_RDWR)
    for answer in work():
        data = pickle.dumps(answer)
        while data:
            data = data[os.write(pipe, data) :]


def _child(ask: Callable[[int], bool], numbers: Sequence[int], marks: mmap.mmap, begin: int, pipe: int) -> NoReturn:
    """Ask. Never returns and never raises: the reader of the pipe sees its end."""

    def work() -> None:
        for place in range(begin, len(numbers)):
            said = False
            with suppress(OSError):
                said = ask(numbers[place])
            marks[place] = _YES if said else _NO

    _alone(pipe, work)


def _alone(kept: int, work: Callable[[], Any]) -> NoReturn:
    """Do work in a child that has but one of our descriptors, and dies with us. Never returns and never raises."""
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        for name in os.listdir("/proc/self/fd"):
            if int(name) != kept:
                with suppress(OSError):
                    os.close(int(name))
        os.chdir("/")
        work()
    finally:
        os._exit(0)
