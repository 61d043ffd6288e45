"""Prepares applications, those at the same time whose plugins let us go on with others while they wait.

Nothing is interrupted but by its own limit, and all in one thread, where a plugin's calls always are: so none has to
think of another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

from borg_lvm.linux.signals import Signals
from borg_lvm.quiesce.managed_application import ManagedApplication
from borg_lvm.quiesce.timeouts import OutOfTime
from borg_lvm.records import dataclass

T = TypeVar("T")
LOOK_AGAIN = 0.05


@dataclass(frozen=True)
class Preparation:
    """One that has begun: its steps, and when (monotonic) it must be over."""

    managed: ManagedApplication
    steps: Iterator[None]
    end: float

    def goes_on(self, signals: Signals) -> bool:
        """Do its next step; return whether another follows. Raises: QuiesceError, InterruptedRunError."""

        def step() -> bool:
            more = next(self.steps, self) is not self
            if more and time.monotonic() > self.end:
                raise OutOfTime
            return more

        return bool(_attempt(self.managed, step, self.end, signals))

    def give_up(self) -> None:
        """Let the plugin clean up what it was at."""
        close = getattr(self.steps, "close", None)
        if close:
            self.managed.failure("preparing", self.managed.entry.prepare_timeout, close)


def prepared(members: Sequence[ManagedApplication], signals: Signals) -> None:
    """Have all prepare; who fails is out, if it may be. Raises: QuiesceError, InterruptedRunError."""
    with ExitStack() as stack:
        waiting: list[Preparation] = []
        for managed in members:
            end = time.monotonic() + managed.entry.prepare_timeout
            steps = _attempt(managed, managed.application.prepare, end, signals)
            if steps is not None:
                preparation = Preparation(managed, iter(steps), end)
                stack.callback(preparation.give_up)
                waiting += [preparation] if preparation.goes_on(signals) else []
        while waiting:
            time.sleep(LOOK_AGAIN)
            waiting = [preparation for preparation in waiting if preparation.goes_on(signals)]


def _attempt(managed: ManagedApplication, work: Callable[[], T], end: float, signals: Signals) -> T | None:
    def stop() -> bool:
        return bool(signals.caught) or time.monotonic() > end

    try:
        return managed.attempt("preparing", managed.entry.prepare_timeout, work, stop)
    finally:
        signals.check()  # a signal is the reason of such a failure, not the plugin
