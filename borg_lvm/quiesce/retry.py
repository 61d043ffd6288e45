"""Another attempt, when an application could not be quiesced in time: with everything going, and nothing left, between.

Waiting longer would be no help: a session that waits for a lock holds up those behind it. So it is given up soon, all
that was quiesced goes on for a while, and then everything is done anew, from the snapshots' space to the connections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from borg_lvm.errors import BusyError
from borg_lvm.linux.signals import Signals
from borg_lvm.log import Log
from borg_lvm.records import dataclass

T = TypeVar("T")
LOOK_AGAIN = 0.2


@dataclass
class Attempts:
    """How many attempts there may be, how many seconds lie between two, and how many there were."""

    most: int
    pause: float
    signals: Signals
    log: Log
    done: int = 0

    @property
    def another(self) -> bool:
        """Whether another may follow the one that goes on."""
        return self.done + 1 < self.most

    @contextmanager
    def kept(self, duty: Callable[[], AbstractContextManager[Sequence[str]]], work: Callable[[], T]) -> Iterator[T]:
        """Do the work under a duty to release what it makes, anew while an application is busy; hold the last duty.

        A duty gives what could not be released, which is known when it has ended.
        Raises: BusyError when it is so at the last attempt, or when something could not be released;
        InterruptedRunError; whatever the work raises.
        """
        with ExitStack() as stack:
            while True:
                leftovers: Sequence[str] = ()
                try:
                    with ExitStack() as attempt:
                        leftovers = attempt.enter_context(duty())
                        answer = work()
                        stack.enter_context(attempt.pop_all())
                        break
                except BusyError as error:
                    if leftovers or not self.another:
                        raise self._given_up(error) from error
                    self._wait(error)
            yield answer

    def _wait(self, error: BusyError) -> None:
        self.done += 1
        next_one = f"attempt {self.done + 1} of {self.most} begins in {self.pause:g} s"
        self.log.info("\n".join([f"{error.message}; everything is resumed, {next_one}", *error.details]))
        end = time.monotonic() + self.pause
        while (left := end - time.monotonic()) > 0:
            self.signals.check()
            time.sleep(min(LOOK_AGAIN, left))

    def _given_up(self, error: BusyError) -> BusyError:
        if not self.done:
            return error
        details = (*error.details, f"given up after {self.done + 1} attempts")
        return BusyError(error.message, remedy=error.remedy, details=details)
