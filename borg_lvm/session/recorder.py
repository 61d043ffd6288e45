"""Writing down what a run's backup is worth, whatever ends the run: its certificate, into the history.

A run that had to go because another one holds its volumes has done nothing and gets none. A mistake of ours in here
fails no backup.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from borg_lvm.errors import BUG_STATUS, BorgLvmError, LockedError
from borg_lvm.log import Log
from borg_lvm.reporting import certificate
from borg_lvm.reporting.certificate import Certificate, Ending
from borg_lvm.reporting.outcome import Outcome, Phase
from borg_lvm.session.survey import Survey
from borg_lvm.state import history


def ended(status: int, error: BaseException | None = None) -> Ending:
    """Return how a run ends now: with the status of its command, or with an error that decides it."""
    host, now = socket.gethostname(), time.time()
    if error is None:
        return Ending(host, now, status)
    if isinstance(error, BorgLvmError):
        return Ending(host, now, error.status, error.message, error.details)
    if isinstance(error, KeyboardInterrupt):
        return Ending(host, now, 128 + signal.SIGINT, "ended by SIGINT")
    return Ending(host, now, BUG_STATUS, f"a bug in borg-lvm: {type(error).__name__}: {error}")


@contextmanager
def recorded(
    surveyed: Survey, outcome: Outcome, certified: Callable[[Certificate], None], log: Log
) -> Iterator[list[int]]:
    """Write down what comes of a run in the block, which puts the command's exit status into the list."""
    statuses: list[int] = []
    error: BaseException | None = None
    try:
        yield statuses
    except BaseException as caught:
        error = caught
        raise
    finally:
        if not isinstance(error, LockedError):
            _record(surveyed, outcome, ended(statuses[0] if statuses else BUG_STATUS, error), certified, log)


def _record(
    surveyed: Survey, outcome: Outcome, ending: Ending, certified: Callable[[Certificate], None], log: Log
) -> None:
    try:
        made = certificate.made(outcome, surveyed.reading, ending)
        certified(made)
        history.keep(outcome, made, surveyed.history, log)
    except Exception as error:
        log.warning(f"the run could not be written down: {type(error).__name__}: {error}; the backup is not concerned")


@dataclass
class Clock:
    """Takes the time of the phases of a run, which follow one another, for what is known of it."""

    outcome: Outcome
    start: float = field(default_factory=time.monotonic)
    _name: str = ""
    _begin: float = 0.0

    def begin(self, name: str) -> None:
        """End the phase that there is and begin the next one, unless it is the same; without a name there is none."""
        if name == self._name:
            return
        now = time.monotonic() - self.start
        if self._name:
            self.outcome.phases.append(Phase(self._name, self._begin, now - self._begin))
        self._name, self._begin = name, now
