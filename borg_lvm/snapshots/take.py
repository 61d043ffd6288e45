"""Taking the snapshots of a plan.

All volumes of a group are held together, in one window (`instant/window.py`), for which their provider has made all
ready before. In a window nothing is logged, imported, opened or started: the log may lie on a volume that is suspended.
The ledger is written before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from borg_lvm.errors import LateError, SnapshotError
from borg_lvm.snapshots import prepare
from borg_lvm.snapshots.instant import expedite, io_uring, window

if TYPE_CHECKING:
    from borg_lvm.planning.plan import Snapshot
    from borg_lvm.reporting.outcome import Instant
    from borg_lvm.snapshots.provider import Provider, RunContext

Quiesced = Callable[[], AbstractContextManager[None]]
"""Holds the applications of a run still for the length of a block."""


class Taker:
    """Takes the snapshots of one run."""

    def __init__(self, run: RunContext, provider: Provider) -> None:
        self.plan = run.plan
        self._run = run
        self._provider = provider
        self._fds: dict[str, int] = {}

    def take(self, quiesced: Quiesced = nullcontext) -> tuple[Instant, ...]:
        """Take all snapshots: in one window for one instant, else in one window for each volume.

        Applications are quiesced once, around all windows but those of logs that have to be saved last; when there is
        one, after all that is done before it.
        Raises: SnapshotError, ProgramError, InterruptedRunError. What was made so far is the caller's to remove.
        """
        snapshots = self.plan.snapshots
        self._provider.announce(self._run, snapshots)
        with prepare.opened(self.plan) as opened:
            self._fds = dict(zip((snapshot.name for snapshot in snapshots), opened, strict=True))
            for snapshot in snapshots:
                if snapshot.may_be_frozen:
                    self._run.watchdog.may_freeze(snapshot.origin.full_name, self._fds[snapshot.name])
            instants = self._windows(snapshots, quiesced)
        self._run.watchdog.forget_mounts()
        return tuple(instants)

    def _windows(self, snapshots: Sequence[Snapshot], quiesced: Quiesced) -> list[Instant]:
        if self.plan.consistency == "instant":
            return [self._window(snapshots, quiesced)]
        late = self.plan.late
        with quiesced():
            first = (snapshot for snapshot in snapshots if snapshot.origin.full_name not in late)
            instants = [self._window((snapshot,), nullcontext) for snapshot in first]
        last = (snapshot for snapshot in snapshots if snapshot.origin.full_name in late)
        return instants + [self._window((snapshot,), nullcontext) for snapshot in last]

    def _window(self, group: Sequence[Snapshot], quiesced: Quiesced) -> Instant:
        run = self._run
        run.signals.check()
        self._write_down(group)
        fds = [self._fds[snapshot.name] for snapshot in group]
        with prepare.memory_locked(), ExitStack() as stack:
            self._refuse_frozen(group, fds)
            ready = stack.enter_context(self._provider.prepared(run, group, fds))
            switch = stack.enter_context(expedite.ready(run.watchdog, run.ledger))
            run.signals.check()
            prepare.write_out(group, fds)
            with _explained(fds), quiesced(), ready.completed() as holds:  # noqa: SIM117 - prepared; then the window
                with self._written_down(), run.watchdog.window(run.deadline):
                    expedite.switch(switch, expedite.ON)
                    instant = window.take(holds)
                    expedite.switch(switch, expedite.OFF)
            uuids = ready.prove()
            instant = replace(instant, transactions=ready.transactions())
        for name, uuid in uuids.items():
            run.ledger.write_made(name, uuid)
        return instant

    def _refuse_frozen(self, group: Sequence[Snapshot], fds: Sequence[int]) -> None:
        """Refuse what somebody else has frozen and we cannot freeze once more, before anything is made."""
        if not any(snapshot.may_be_frozen for snapshot in group):
            return
        prepare.write_out(group, fds)
        with self._written_down(), self._run.watchdog.window(self._run.deadline):
            frozen = prepare.frozen_by_others(group, fds)
        if frozen:
            raise SnapshotError(
                f"{', '.join(frozen)}: somebody else has frozen it; nothing was done",
                remedy="find out who, then: " + "; ".join(f"fsfreeze --unfreeze {path}" for path in frozen),
            )

    def _write_down(self, group: Sequence[Snapshot]) -> None:
        """Enter in the ledger what is about to be made, and which file systems may be frozen."""
        for snapshot in group:
            self._provider.write_down(self._run, snapshot)
            if snapshot.may_be_frozen:
                device = self.plan.seen[snapshot.mounted_at].device
                self._run.ledger.write("freeze", path=snapshot.mounted_at, device=device)

    @contextmanager
    def _written_down(self) -> Iterator[None]:
        """Write into the ledger that something may be suspended, and that it is no longer."""
        self._run.ledger.write("window")
        yield
        self._run.ledger.write("thawed")


@contextmanager
def _explained(fds: Sequence[int]) -> Iterator[None]:
    """Add to an error that came too late who may be the reason."""
    try:
        yield
    except LateError as error:
        explanation = io_uring.described(prepare.devices(fds))
        if explanation:
            error.details += explanation
            error.remedy = f"{error.remedy}; {io_uring.REMEDY}"
        raise
