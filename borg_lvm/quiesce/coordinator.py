"""Drives the applications of a run: asks, prepares, quiesces them in their order, resumes them in the reverse one.

pluggy has only handed the plugins over. Here it is known at each moment who is quiesced, so that each of them is
resumed on every way out, also one that was only attempted; and no call of a plugin's may last for ever. While
anything is quiesced nothing is logged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from borg_lvm.config.schema import Settings
from borg_lvm.errors import BorgLvmError, BusyError, QuiesceError
from borg_lvm.linux.namespaces import ViewNamespace
from borg_lvm.linux.signals import Signals
from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.planning.application_data import ProbedApplication
from borg_lvm.planning.plan import Plan
from borg_lvm.plugins.application import Added
from borg_lvm.quiesce import managed_application
from borg_lvm.quiesce import prepare as preparing
from borg_lvm.quiesce import verify as verifying
from borg_lvm.quiesce.managed_application import ManagedApplication
from borg_lvm.reporting.outcome import ApplicationResult
from borg_lvm.state.ledger import Ledger, path
from borg_lvm.watchdog import resume
from borg_lvm.watchdog.client import Watchdog

RESUME_TIMEOUT = 20.0
APART_TIMEOUT = 600.0
"""How long volumes may be snapshotted one after the other when nothing of an application is quiesced meanwhile."""


@contextmanager
def assembled(settings: Settings) -> Iterator[Applications]:
    """Load the plugins of the configured applications; let go of all connections in the end. Raises: ConfigError."""
    applications = Applications(managed_application.load(settings))
    try:
        yield applications
    finally:
        applications.close()


class Applications:
    """All applications of a run."""

    def __init__(self, members: Sequence[ManagedApplication]) -> None:
        self._members = members
        self._attempts: list[Ready] = []

    @property
    def drillable(self) -> tuple[str, ...]:
        """The names of those whose plugin can judge one that was restored."""
        return tuple(managed.name for managed in self._members if managed.kind.judge)

    def probe(self) -> tuple[tuple[ProbedApplication, ...], tuple[str, ...]]:
        """Ask all where they keep what; returns that, and why some take no part. Raises: QuiesceError."""
        for managed in self._members:
            managed.ask()
        left_out = tuple(f"{managed.out}; it is not quiesced" for managed in self._members if managed.out)
        return tuple(managed.asked() for managed in self._active()), left_out

    def prepare(self, watchdog: Watchdog, ledger: Ledger, signals: Signals, *, patient: bool = False) -> Ready:
        """Do what takes long, register with the watchdog how each is resumed; all begin anew but for the first time.

        `patient`: another attempt follows if one is busy. Raises: QuiesceError, InterruptedRunError.
        """
        watchdog.writes_to(path(ledger.run_id))
        for managed in self._active():
            managed.patient = patient
            if self._attempts:
                managed.renew()
        for managed in self._active():
            before = managed.probe.paths
            managed.ask()
            if set(managed.probe.paths) != set(before):  # some name them in another order each time
                raise QuiesceError(f"{managed.name}: it keeps its data elsewhere now", remedy="run it again")
        preparing.prepared(self._active(), signals)
        for managed in self._active():
            intents = managed.attempt("asking", managed.entry.prepare_timeout, managed.application.intents)
            managed.undo = resume.written(intents or ())
            if intents:
                watchdog.may_quiesce(managed.name, managed.undo)
        ready = Ready(self._active(), watchdog, ledger, signals)
        self._attempts.append(ready)
        return ready

    def not_resumed(self) -> list[str]:
        """Return which could not be resumed, of all attempts, and why."""
        return [text for ready in self._attempts for text in ready.not_resumed]

    def ask_again(self) -> None:
        """See that who was absent still is, now that all snapshots are there. Raises: QuiesceError."""
        for managed in self._members:
            managed.ask_again()

    def added(self) -> dict[str, Sequence[Added]]:
        """Return what is to be put into the snapshot of each, by its name. Raises: QuiesceError."""
        by_name = {}
        for managed in self._active():
            added = managed.attempt("asking", managed.entry.prepare_timeout, managed.application.added)
            if added:
                by_name[managed.name] = added
        return by_name

    def verify(self, plan: Plan, signals: Signals, view: ViewNamespace) -> None:
        """Have those whose data is all in the view look at their snapshots there.

        Raises: QuiesceError when one is wrong, unless the run may go on with it; InterruptedRunError.
        """
        whole = {
            planned.name
            for planned in plan.applications
            if planned.kept and not any(kept.missing for kept in planned.kept)
        }
        verifying.verify(
            [managed for managed in self._active() if managed.looks and managed.name in whole], view, signals
        )

    def close(self) -> None:
        """Let go of connections and processes, until another attempt is prepared; a second time does nothing."""
        for managed in self._members:
            managed.close()

    def results(self) -> tuple[ApplicationResult, ...]:
        """Return the result of each."""
        return tuple(
            ApplicationResult(
                managed.name,
                managed.settings.level,
                managed.seconds,
                managed.out,
                managed.may_be_absent and managed.absent,
                managed.remark,
                still=managed.still,
                recovers=managed.settings.level in managed.kind.recovers,
                verified=managed.verified,
                wrong=managed.wrong,
            )
            for managed in self._members
        )

    def _active(self) -> list[ManagedApplication]:
        return [managed for managed in self._members if not managed.out]


class Ready:
    """Applications that can be quiesced now; `not_resumed` are those that could not be resumed then, and why."""

    def __init__(
        self, members: Sequence[ManagedApplication], watchdog: Watchdog, ledger: Ledger, signals: Signals
    ) -> None:
        self._members = members
        self._watchdog = watchdog
        self._ledger = ledger
        self._signals = signals
        self.not_resumed: list[str] = []
        self._failed: list[str] = []

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Quiesce all applications for the length of the block, then have each prove that it stayed so.

        Raises: QuiesceError; BusyError when another attempt may succeed. Whatever happens, all are resumed; those that
        could not be are named in the error.
        """
        try:
            with ExitStack() as stack:
                for managed in self._members:
                    self._signals.check()
                    stack.callback(self._resume, managed)
                    self._enter(managed)
                yield
                for managed in self._members:
                    if not managed.out:
                        remark = managed.attempt("confirming", managed.settings.deadline, managed.application.confirm)
                        managed.remark = remark or ""
        except BorgLvmError as error:
            error.details += tuple(self._failed)
            if (self._failed or self.not_resumed) and isinstance(error, BusyError):  # they are not to be stopped again
                raise QuiesceError(error.message, remedy=error.remedy, details=error.details) from error
            raise
        if self._failed:
            raise QuiesceError(self._failed[0], details=tuple(self._failed[1:]))

    def _enter(self, managed: ManagedApplication) -> None:
        """Quiesce one: first in the ledger, then with the watchdog, then in fact."""
        managed.attempted = True
        managed.seconds = -time.monotonic()
        self._ledger.write("quiesce", name=managed.name, undo=managed.undo)
        self._watchdog.hold(managed.name, APART_TIMEOUT if managed.apart else managed.settings.deadline)
        managed.enter()
        if managed.out:
            self._resume(managed)

    def _resume(self, managed: ManagedApplication) -> None:
        """Resume one. What goes wrong does not stop the others. A second time does nothing."""
        if not managed.attempted:
            return
        managed.attempted = False
        goes = self._goes_again(managed)
        managed.seconds += time.monotonic()
        late = self._watchdog.resumed(managed.name)
        if late and managed.entered:
            self._failed.append(f"{managed.name}: {late}")
        if goes:
            with suppress(BorgLvmError):  # a full /run must not stop us
                self._ledger.write("resumed", name=managed.name)

    def _goes_again(self, managed: ManagedApplication) -> bool:
        """Resume one by itself; if it had not come so far, or fails, by what was written down as well."""
        error = managed.leave(RESUME_TIMEOUT)
        if managed.entered and error is None:
            return True
        if error and managed.entered:
            self._failed.append(error.message)
        try:
            resume.run("", managed.name, managed.undo)
        except ProgramError as failed:
            self.not_resumed.append(
                f"{managed.name} may still be quiesced: {' '.join(failed.details) or failed.message}"
            )
            return False
        return True
