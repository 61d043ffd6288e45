"""Prepares applications, those at the same time whose plugins let us go on with others while they wait.

Nothing is interrupted but by its own limit, and all in one thread, where a plugin's calls always are: so none has to
think of another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from borg_lvm.linux.signals import Signals
from borg_lvm.linux.timeouts import OutOfTime
from borg_lvm.quiesce.managed_application import ManagedApplication

T = TypeVar("T")
LOOK_AGAIN = 0.05


@dataclass(frozen=True)
class Preparation:
    """One that has begun: its steps, and when (monotonic) it must be over."""

    player: ManagedApplication
    steps: Iterator[None]
    end: float

    def goes_on(self, signals: Signals) -> bool:
        """Do its next step; tell whether another follows. Raises: QuiesceError, InterruptedRunError."""

        def step() -> bool:
            more = next(self.steps, self) is not self
            if more and time.monotonic() > self.end:
                raise OutOfTime
            return more

        return bool(_attempt(self.player, step, self.end, signals))

    def give_up(self) -> None:
        """Let the plugin clean up what it was at."""
        close = getattr(self.steps, "close", None)
        if close:
            self.player.failure("preparing", self.player.entry.prepare_timeout, close)


def prepared(players: Sequence[ManagedApplication], signals: Signals) -> None:
    """Have all prepare; who fails is out, if it may be. Raises: QuiesceError, InterruptedRunError."""
    with ExitStack() as stack:
        waiting: list[Preparation] = []
        for player in players:
            end = time.monotonic() + player.entry.prepare_timeout
            steps = _attempt(player, player.application.prepare, end, signals)
            if steps is not None:
                one = Preparation(player, iter(steps), end)
                stack.callback(one.give_up)
                waiting += [one] if one.goes_on(signals) else []
        while waiting:
            time.sleep(LOOK_AGAIN)
            waiting = [one for one in waiting if one.goes_on(signals)]


def _attempt(player: ManagedApplication, work: Callable[[], T], end: float, signals: Signals) -> T | None:
    def stop() -> bool:
        return bool(signals.caught) or time.monotonic() > end

    try:
        return player.attempt("preparing", player.entry.prepare_timeout, work, stop)
    finally:
        signals.check()  # a signal is the reason of such a failure, not the plugin
