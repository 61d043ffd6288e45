"""Signals become one error, at a safe point, once; a release is never interrupted.

A handler only takes note. Between two steps `check()` raises; while the wrapped command runs the signals are
blocked and waited for (see `view/command.py`), because only so the kernel reports whether a terminal or a process sent
them.
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from borg_lvm.errors import InterruptedRunError

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
STRAY: tuple[int, ...] = (
    signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR,
    signal.SIGSTKFLT, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
)  # fmt: skip
"""Signals that end a process unless it handles them, and that nobody sends to us: `pkill -USR1 borg` matches us too."""

_inherited: dict[str, bool] = {"ignores_children": False}


def heed_children() -> None:
    """Have the kernel keep the status of our children, even if we were started with SIGCHLD ignored.

    Otherwise it throws it away, and a program that failed looks like one that went well.
    """
    _inherited["ignores_children"] = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def bear_strays() -> None:
    """Have stray signals change nothing; one that was ignored before stays ignored.

    By a handler, not by ignoring them: what we start then finds them as usual. In the end they are blocked, for Python
    takes its handlers away before the process is gone.
    """
    for signum in STRAY:
        if signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, _nothing)
    atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, STRAY)


def let_strays_in() -> None:
    """Let stray signals through that our parent has blocked until we can bear them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STRAY)


def _nothing(signum: int, frame: FrameType | None) -> None:
    pass


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold off stray signals in the block: a system call that one interrupts fails."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STRAY)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_effect() -> None:
    """Have signals do again what they do to any program, but for those that were ignored from the beginning.

    For a child of ours that will become another program. One that waits, being blocked, would else be taken note of
    by a handler of ours as soon as it is let through, and forgotten by execve(2).
    """
    for signum in (*ENDING, *STRAY):
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


def as_inherited() -> None:
    """Give SIGCHLD back to the command as we found it."""
    if _inherited["ignores_children"]:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


@contextmanager
def raising(signals: Sequence[signal.Signals], when: str) -> Iterator[None]:
    """Have these raise InterruptedRunError in the block, at once; one that was ignored before stays ignored."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise InterruptedRunError(signum, f"ended by {signal.Signals(signum).name} {when}")

    with _handled(signals, stop):
        yield


@contextmanager
def _handled(signals: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before: dict[signal.Signals, Any] = {}
    try:
        for signum in signals:
            if signal.getsignal(signum) != signal.SIG_IGN:
                before[signum] = signal.signal(signum, handler)
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)


class Signals:
    """Takes note of ending signals for the length of the block; one that was ignored before stays ignored."""

    def __init__(self) -> None:
        self.caught: list[int] = []
        self._handled = _handled(ENDING, self._note)

    def __enter__(self) -> Signals:
        self._handled.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handled.__exit__(None, None, None)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.caught.append(signum)

    def check(self, when: str = "before the command was started") -> None:
        """Raise InterruptedRunError if a signal has come; `when` says what it has kept us from."""
        if self.caught:
            name = signal.Signals(self.caught[0]).name
            raise InterruptedRunError(self.caught[0], f"ended by {name} {when}")
