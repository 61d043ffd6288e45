"""Drives the applications of a run: asks, prepares, quiesces them in their order, resumes them in the reverse one.

pluggy has only handed the plugins over. Here it is known at each moment who stands still, so that whoever does is
resumed on every way out, also one that was only attempted; and no call of a plugin's may last for ever. While
anything stands still nothing is logged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from borg_lvm.config.schema import Settings
from borg_lvm.errors import BorgLvmError, BusyError, QuiesceError
from borg_lvm.linux.namespaces import View
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
"""How long volumes may be snapshotted one after the other when nothing of an application stands still meanwhile."""


@contextmanager
def assembled(settings: Settings) -> Iterator[Applications]:
    """Load the plugins of the configured applications; let go of all connections in the end. Raises: ConfigError."""
    troupe = Applications(managed_application.made(settings))
    try:
        yield troupe
    finally:
        troupe.close()


class Applications:
    """All applications of a run."""

    def __init__(self, members: Sequence[ManagedApplication]) -> None:
        self._members = members
        self._attempts: list[Ready] = []

    def probe(self) -> tuple[tuple[ProbedApplication, ...], tuple[str, ...]]:
        """Ask all where they keep what; returns that, and why some take no part. Raises: QuiesceError."""
        for player in self._members:
            player.ask()
        left_out = tuple(f"{player.out}; it is not quiesced" for player in self._members if player.out)
        return tuple(player.asked() for player in self._active()), left_out

    def prepare(self, watch: Watchdog, ledger: Ledger, signals: Signals, *, patient: bool = False) -> Ready:
        """Do what takes long, and tell the watchdog how each is resumed; all begin anew if it is not the first time.

        `patient`: another attempt follows if one is busy. Raises: QuiesceError, InterruptedRunError.
        """
        watch.writes_to(path(ledger.run_id))
        for player in self._active():
            player.patient = patient
            if self._attempts:
                player.renew()
        for player in self._active():
            before = player.probe.paths
            player.ask()
            if set(player.probe.paths) != set(before):  # some tell of them in another order each time
                raise QuiesceError(f"{player.name}: it keeps its data elsewhere now", remedy="run it again")
        preparing.prepared(self._active(), signals)
        for player in self._active():
            intents = player.attempt("asking", player.entry.prepare_timeout, player.application.intents)
            player.undo = resume.written(intents or ())
            if intents:
                watch.may_quiesce(player.name, player.undo)
        ready = Ready(self._active(), watch, ledger, signals)
        self._attempts.append(ready)
        return ready

    def not_resumed(self) -> list[str]:
        """Return which could not be resumed, of all attempts, and why."""
        return [text for ready in self._attempts for text in ready.not_resumed]

    def ask_again(self) -> None:
        """See that who was absent still is, now that all snapshots are there. Raises: QuiesceError."""
        for player in self._members:
            player.ask_again()

    def added(self) -> dict[str, Sequence[Added]]:
        """Return what is to be put into the copy of each, by its name. Raises: QuiesceError."""
        found = {}
        for player in self._active():
            added = player.attempt("asking", player.entry.prepare_timeout, player.application.added)
            if added:
                found[player.name] = added
        return found

    def verify(self, plan: Plan, signals: Signals, view: View) -> None:
        """Have those whose data is all in the view look at their copies there.

        Raises: QuiesceError when one is wrong, unless the run may go on with it; InterruptedRunError.
        """
        whole = {one.name for one in plan.applications if one.kept and not any(kept.missing for kept in one.kept)}
        verifying.looked([player for player in self._active() if player.looks and player.name in whole], view, signals)

    def close(self) -> None:
        """Let go of connections and processes, until another attempt is prepared; a second time does nothing."""
        for player in self._members:
            player.close()

    def told(self) -> tuple[ApplicationResult, ...]:
        """Return what has become of each."""
        return tuple(
            ApplicationResult(
                player.name,
                player.wish.level,
                player.seconds,
                player.out,
                player.may_be_absent and player.absent,
                player.remark,
                still=player.still,
                recovers=player.wish.level in player.kind.recovers,
                verified=player.verified,
                wrong=player.wrong,
            )
            for player in self._members
        )

    def _active(self) -> list[ManagedApplication]:
        return [player for player in self._members if not player.out]


class Ready:
    """Applications that can be quiesced now; `not_resumed` are those that could not be resumed then, and why."""

    def __init__(
        self, members: Sequence[ManagedApplication], watch: Watchdog, ledger: Ledger, signals: Signals
    ) -> None:
        self._members = members
        self._watch = watch
        self._ledger = ledger
        self._signals = signals
        self.not_resumed: list[str] = []
        self._failed: list[str] = []

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Hold all applications still for the length of the block, then have each prove that it did stand still.

        Raises: QuiesceError; BusyError when another attempt may succeed. Whatever happens, all are resumed; those that
        could not be are told in the error.
        """
        try:
            with ExitStack() as stack:
                for player in self._members:
                    self._signals.check()
                    stack.callback(self._resume, player)
                    self._enter(player)
                yield
                for player in self._members:
                    if not player.out:
                        told = player.attempt("confirming", player.wish.deadline, player.application.confirm)
                        player.remark = told or ""
        except BorgLvmError as error:
            error.details += tuple(self._failed)
            if (self._failed or self.not_resumed) and isinstance(error, BusyError):  # they are not to be stopped again
                raise QuiesceError(error.message, remedy=error.remedy, details=error.details) from error
            raise
        if self._failed:
            raise QuiesceError(self._failed[0], details=tuple(self._failed[1:]))

    def _enter(self, player: ManagedApplication) -> None:
        """Quiesce one: first in the ledger, then with the watchdog, then in fact."""
        player.attempted = True
        player.seconds = -time.monotonic()
        self._ledger.write("quiesce", name=player.name, undo=player.undo)
        self._watch.hold(player.name, APART_TIMEOUT if player.apart else player.wish.deadline)
        player.enter()
        if player.out:
            self._resume(player)

    def _resume(self, player: ManagedApplication) -> None:
        """Resume one. What goes wrong does not stop the others. A second time does nothing."""
        if not player.attempted:
            return
        player.attempted = False
        goes = self._goes_again(player)
        player.seconds += time.monotonic()
        late = self._watch.resumed(player.name)
        if late and player.entered:
            self._failed.append(f"{player.name}: {late}")
        if goes:
            with suppress(BorgLvmError):  # a full /run must not stop us
                self._ledger.write("resumed", name=player.name)

    def _goes_again(self, player: ManagedApplication) -> bool:
        """Resume one by itself; if it had not come so far, or fails, by what was written down as well."""
        error = player.leave(RESUME_TIMEOUT)
        if player.entered and error is None:
            return True
        if error and player.entered:
            self._failed.append(error.message)
        try:
            resume.run("", player.name, player.undo)
        except ProgramError as failed:
            self.not_resumed.append(
                f"{player.name} may still be quiesced: {' '.join(failed.details) or failed.message}"
            )
            return False
        return True
