"""Taking the snapshots of a plan.

All volumes of a group are held together, in one window (`window.py`); LVM and the kernel have been made ready before
(`create.py`, `arm.py`). In a window nothing is logged, imported, opened or started: the log may lie on a volume that is
suspended. The ledger is written before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from borg_lvm.errors import BusyError, LateError, SnapshotError
from borg_lvm.linux.signals import Signals
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.reporting.outcome import Instant
from borg_lvm.snapshots import expedite, io_uring, prepare, window
from borg_lvm.snapshots.lvm import arm, create
from borg_lvm.state.ledger import Ledger
from borg_lvm.watchdog.client import Watchdog

Quiesced = Callable[[], AbstractContextManager[None]]
"""Holds the applications of a run still for the length of a block."""
PATIENCE = 2.0
"""Seconds to wait for another command of LVM's while applications are quiesced; they may use LVM themselves until
then."""


class Taker:
    """Takes the snapshots of one run."""

    def __init__(
        self, plan: Plan, watch: Watchdog, ledger: Ledger, signals: Signals, deadline: float, timeout: float
    ) -> None:
        self.plan = plan
        self._watch = watch
        self._ledger = ledger
        self._signals = signals
        self._deadline = deadline
        self._timeout = timeout
        self._creator = create.Creator(plan, watch, ledger, deadline, timeout)
        self._fds: dict[str, int] = {}

    def take(self, quiesced: Quiesced = nullcontext) -> tuple[Instant, ...]:
        """Take all snapshots: in one window for one instant, else in one window for each volume.

        Applications are quiesced once, around all windows but those of logs that have to be saved last; when there is
        one, after all that is done before it.
        Raises: SnapshotError, ProgramError, InterruptedRunError. What was made so far is the caller's to remove.
        """
        copies = self.plan.copies
        for copy in copies:
            for uuid in _suspended(copy):
                self._watch.may_suspend(copy.origin.full_name, uuid)
        with prepare.opened(self.plan) as opened:
            self._fds = dict(zip((copy.name for copy in copies), opened, strict=True))
            for copy in copies:
                if copy.hold == "freeze":
                    self._watch.may_freeze(copy.origin.full_name, self._fds[copy.name])
            instants = self._windows(copies, quiesced)
        self._watch.forget_mounts()
        return tuple(instants)

    def _windows(self, copies: Sequence[Snapshot], quiesced: Quiesced) -> list[Instant]:
        if self.plan.consistency == "instant":
            return [self._window(copies, quiesced)]
        late = self.plan.late
        with quiesced():
            first = (copy for copy in copies if copy.origin.full_name not in late)
            instants = [self._window((copy,), nullcontext) for copy in first]
        last = (copy for copy in copies if copy.origin.full_name in late)
        return instants + [self._window((copy,), nullcontext) for copy in last]

    def _window(self, group: Sequence[Snapshot], quiesced: Quiesced) -> Instant:
        self._signals.check()
        self._write_down(group)
        fds = [self._fds[copy.name] for copy in group]
        with prepare.memory_locked(), ExitStack() as stack:
            self._refuse_frozen(group, fds)
            made = self._creator.create(group)
            with made.locked(self._timeout):
                written = made.written(self._timeout)
                members = stack.enter_context(arm.armed(made, written, fds, self._ledger, self._timeout))
            switch = stack.enter_context(expedite.ready(self._watch, self._ledger))
            self._signals.check()
            prepare.write_out(group, fds)
            with _explained(fds), quiesced(), made.locked(PATIENCE):
                if made.is_thin and not made.is_still(written, self._timeout):  # the kernel knows nothing of them yet
                    raise BusyError("another command has changed the thin snapshots meanwhile", remedy="run it again")
                members = arm.complete(members)
                with self._written_down(), self._watch.window(self._deadline):
                    expedite.switch(switch, expedite.ON)
                    instant = window.take(members)
                    expedite.switch(switch, expedite.OFF)
            arm.prove(members)
        for member in members:
            self._ledger.write_made(member.copy.full_name, member.snapshot)
        return instant

    def _refuse_frozen(self, group: Sequence[Snapshot], fds: Sequence[int]) -> None:
        """Refuse what somebody else has frozen and we cannot freeze once more, before anything is made."""
        if not any(copy.hold == "freeze" for copy in group):
            return
        prepare.write_out(group, fds)
        with self._written_down(), self._watch.window(self._deadline):
            found = prepare.frozen_by_others(group, fds)
        if found:
            raise SnapshotError(
                f"{', '.join(found)}: somebody else has frozen it; nothing was done",
                remedy="find out who, then: " + "; ".join(f"fsfreeze --unfreeze {path}" for path in found),
            )

    def _write_down(self, group: Sequence[Snapshot]) -> None:
        """Tell the ledger what is about to be made, and which file systems may be frozen."""
        for copy in group:
            origin = copy.origin
            self._ledger.write("snapshot", name=copy.full_name, origin=origin.dm_uuid, volume=origin.full_name)
            for uuid in _suspended(copy)[1:]:
                self._ledger.write("below", device=uuid)
            if copy.hold == "freeze":
                device = self.plan.seen[copy.mounted_at].device
                self._ledger.write("freeze", path=copy.mounted_at, device=device)

    @contextmanager
    def _written_down(self) -> Iterator[None]:
        """Tell the ledger that something may stand still, and that it does not any more."""
        self._ledger.write("window")
        yield
        self._ledger.write("thawed")


def _suspended(copy: Snapshot) -> list[str]:
    """Return the uuids of what is suspended for a snapshot, what lies below last."""
    uuid = copy.origin.dm_uuid
    return [uuid, f"{uuid}-real"] if copy.origin.is_thin and copy.origin.attr[0] in "oO" else [uuid]


@contextmanager
def _explained(fds: Sequence[int]) -> Iterator[None]:
    """Add to an error that came too late who may be the reason."""
    try:
        yield
    except LateError as error:
        told = io_uring.told(prepare.devices(fds))
        if told:
            error.details += told
            error.remedy = f"{error.remedy}; {io_uring.REMEDY}"
        raise
