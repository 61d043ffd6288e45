"""Taking the snapshots of a plan.

All volumes of a group stand still together: `hold` says of each how. LVM itself holds one (`lvm`) while it makes
its snapshot, and that one is made first; the others are held by us from before until after (DESIGN.md gives the
argument why all snapshots then show one instant). Between `window` and its end nothing is logged, imported or
opened: the log may lie on a volume that stands still. The ledger is written before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from borg_lvm import dm, holding, making, uring
from borg_lvm.errors import LateError, SnapshotError
from borg_lvm.guardian import Guardian
from borg_lvm.ledger import Ledger
from borg_lvm.plan import Copy, Plan
from borg_lvm.report import Instant
from borg_lvm.signals import Signals

Quiesced = Callable[[], AbstractContextManager[None]]
"""Holds the applications of a run still for the length of a block."""


class Taker:
    """Takes the snapshots of one run."""

    def __init__(
        self, plan: Plan, watch: Guardian, ledger: Ledger, signals: Signals, deadline: float, timeout: float
    ) -> None:
        self.plan = plan
        self._watch = watch
        self._ledger = ledger
        self._signals = signals
        self._deadline = deadline
        self._timeout = timeout
        self._fds: dict[str, int] = {}

    def take(self, quiesced: Quiesced = nullcontext) -> tuple[Instant, ...]:
        """Take all snapshots: in one window for one instant, else in one window for each volume.

        Applications are quiesced once, around all windows but those of logs that have to be saved last; when there is
        one, after all that is done before it.
        Errors: SnapshotError, ProgramError, InterruptedRunError. What was made so far is the caller's to remove.
        """
        copies = self.plan.copies
        for copy in copies:
            self._watch.may_suspend(copy.origin.full_name, copy.origin.dm_uuid)
        with holding.opened(self.plan) as opened:
            self._fds = dict(zip((copy.name for copy in copies), opened, strict=True))
            for copy in self._may_be_frozen(copies):
                self._watch.may_freeze(copy.origin.full_name, self._fds[copy.name])
            instants = self._windows(copies, quiesced)
        self._watch.forget_mounts()
        return tuple(instants)

    def _windows(self, copies: Sequence[Copy], quiesced: Quiesced) -> list[Instant]:
        if self.plan.consistency == "instant":
            return [self._window(copies, quiesced)]
        late = self.plan.late
        with quiesced():
            first = (copy for copy in copies if copy.origin.full_name not in late)
            instants = [self._window((copy,), nullcontext) for copy in first]
        last = (copy for copy in copies if copy.origin.full_name in late)
        return instants + [self._window((copy,), nullcontext) for copy in last]

    def _window(self, group: Sequence[Copy], quiesced: Quiesced) -> Instant:
        self._signals.check()
        for copy in group:
            origin = copy.origin
            self._ledger.write("snapshot", name=copy.full_name, origin=origin.dm_uuid, volume=origin.full_name)
        for copy in self._may_be_frozen(group):
            device = self.plan.seen[copy.mounted_at].device
            self._ledger.write("freeze", path=copy.mounted_at, device=device)
        with holding.ready(group, [self._fds[copy.name] for copy in group]) as holder:
            self._refuse_frozen(holder)
            with making.maker(self.plan, group, self._ledger, self._timeout) as maker:
                self._signals.check()
                holder.write_out()
                with _explained(holder), quiesced(), self._written_down():
                    begin, start = time.time(), time.monotonic()
                    with self._watch.window(self._deadline), holder.held():
                        maker.make(holder.prove_held)
                    seconds = time.monotonic() - start
                maker.prove()
        for copy in group:
            self._ledger.write_made(copy.full_name, dm.uuid_of(copy.dm_name))
        still = tuple(holder.still[number] for number in range(len(group)))
        return Instant(tuple(copy.origin.full_name for copy in group), begin, seconds, still)

    def _refuse_frozen(self, holder: holding.Holder) -> None:
        """Refuse what somebody else has frozen, before anything is made.

        We cannot freeze it once more. Where freezes do not nest, LVM cannot either, and leaves it suspended.
        """
        wanted = self._may_be_frozen(holder.group)
        if not wanted:
            return
        holder.write_out()
        with self._written_down(), self._watch.window(self._deadline):
            found = holder.frozen_by_others(wanted)
        if found:
            raise SnapshotError(
                f"{', '.join(found)}: somebody else has frozen it; nothing was done",
                remedy="find out who, then: " + "; ".join(f"fsfreeze --unfreeze {path}" for path in found),
            )

    @contextmanager
    def _written_down(self) -> Iterator[None]:
        """Tell the ledger that something may stand still, and that it does not any more."""
        self._ledger.write("window")
        yield
        self._ledger.write("thawed")

    def _may_be_frozen(self, copies: Sequence[Copy]) -> list[Copy]:
        """Return those whose file system we freeze: to hold it, or to see whether somebody else has frozen it."""
        return [copy for copy in copies if copy.mounted_at and (copy.hold == "freeze" or not self.plan.nesting)]


@contextmanager
def _explained(holder: holding.Holder) -> Iterator[None]:
    """Add to an error that came too late who may be the reason."""
    try:
        yield
    except LateError as error:
        told = uring.told(holder.devices())
        if told:
            error.details += told
            error.remedy = f"{error.remedy}; {uring.REMEDY}"
        raise
