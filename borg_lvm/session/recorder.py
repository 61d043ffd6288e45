"""Writes down how consistent a run's backup is, whatever ends the run: its certificate, into the history.

A run that had to go because another one holds its volumes has done nothing and gets none. A mistake of ours in here
fails no backup.
"""

from __future__ import annotations

import os
import signal
import time

from borg_lvm.errors import BUG_STATUS, BorgLvmError, LockedError
from borg_lvm.log import Log
from borg_lvm.records import dataclass, field
from borg_lvm.reporting import certificate
from borg_lvm.reporting.certificate import Certificate, RunEnd
from borg_lvm.reporting.outcome import Outcome, Phase
from borg_lvm.session.survey import Survey
from borg_lvm.state import history


def ended(status: int, error: BaseException | None = None) -> RunEnd:
    """Return how a run ends now: with the status of its command, or with an error that decides it."""
    host, now = os.uname().nodename, time.time()
    if error is None:
        return RunEnd(host, now, status)
    if isinstance(error, BorgLvmError):
        return RunEnd(host, now, error.status, error.message, error.details)
    if isinstance(error, KeyboardInterrupt):
        return RunEnd(host, now, 128 + signal.SIGINT, "ended by SIGINT")
    return RunEnd(host, now, BUG_STATUS, f"a bug in borg-lvm: {type(error).__name__}: {error}")


@dataclass(frozen=True)
class RunResult:
    """How a run has ended: its exit status, its certificate if it has one, and the error that has ended it, if any."""

    status: int
    certificate: Certificate | None = None
    error: BaseException | None = None


def recorded(surveyed: Survey, outcome: Outcome, status: int, error: BaseException | None, log: Log) -> RunResult:
    """Write down the result of a run, whose command ended with `status` unless an error has ended it."""
    ending = ended(status, error)
    if isinstance(error, LockedError):
        return RunResult(ending.status, None, error)
    record = None
    try:
        record = certificate.build(outcome, surveyed.reading, ending)
        history.keep(outcome, record, surveyed.history, log)
    except Exception as bug:
        log.warning(
            f"the run could not be recorded in the history: {type(bug).__name__}: {bug}; the backup is not concerned"
        )
    return RunResult(ending.status, record, error)


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
