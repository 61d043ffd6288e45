"""A limit in time for code of others: a plugin that hangs is interrupted, by a timer's signal, in the main thread."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TICK = 0.25
GRACE = 5.0
"""Seconds that an interrupted block gets to clean up before it is interrupted again."""


class OutOfTime(BaseException):
    """The time is over, or somebody wants us to stop. No `except Exception` of a plugin's catches it."""


@contextmanager
def at_most(seconds: float, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Interrupt the block when it takes longer than so many seconds, or as soon as `stop` says so.

    The interruption is an OutOfTime, again every few seconds until the block has ended: one may be lost. What waits in
    the kernel without heeding signals is not interrupted.
    """
    end = time.monotonic() + seconds
    again = 0.0

    def ring(signum: int, frame: FrameType | None) -> None:
        nonlocal again
        now = time.monotonic()
        if now >= again and (now >= end or stop()):
            again = now + GRACE
            raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    begin = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, min(TICK, max(seconds, 0.001)), TICK)
    try:
        yield
    finally:
        # Somebody else's timer (a test's limit) goes on with what is left of its time.
        signal.setitimer(signal.ITIMER_REAL, max(0.001, left + begin - time.monotonic()) if left else 0, interval)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGALRM, before)
