"""A provider of snapshots that are apart from LVM's, lying in one way each; whose provider it is comes after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from borg_lvm.linux import syscalls
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.log import Log
from borg_lvm.planning.plan import Snapshot
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots.provider import Growth, Monitors, Named, Prepared, Provider, RunContext
from borg_lvm.snapshots.together import ReadyParts
from borg_lvm.state.dead_run import Dead
from tests.contract.providers.wrong import WrongHold, WrongPrepared


class TakesThemLast(Provider):
    """Takes each snapshot when the others have been taken: what came later may be in it."""

    @contextmanager
    def prepared(self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]) -> Iterator[Prepared]:
        class Late(WrongHold):
            def appear(self) -> None:
                pass

            def prove(self) -> None:
                self.right.appear()

        with super().prepared(run, group, fds) as ready:  # type: ignore[safe-super]  # the one that comes after
            yield WrongPrepared(ready, Late)


class TakesOneAfterTheOther(Provider):
    """Takes each snapshot by a step of its own, and proves nothing of the others."""

    @contextmanager
    def prepared(self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]) -> Iterator[Prepared]:
        take = super().prepared  # type: ignore[safe-super]  # the one that comes after
        with ExitStack() as stack:
            yield ReadyParts([stack.enter_context(take(run, [one], [fd])) for one, fd in zip(group, fds, strict=True)])


class MountsTheOriginal(Provider):
    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        syscalls.mount(snapshot.mounted_at, point, None, syscalls.MS_BIND)
        flags |= syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount(None, point, None, flags)


class TakesALostOneForRight(Provider):
    def fill(self, run: RunContext, snapshot: Snapshot) -> Fill:
        return Fill(0, 0)


class WatchesNothing(Provider):
    def monitors(self, run: RunContext, growth: Growth) -> Monitors:
        return Monitors((), ())


class LeavesSnapshots(Provider):
    def released(self, run: RunContext, *, keep: bool) -> AbstractContextManager[Leftovers]:
        return nullcontext(Leftovers())


class RemovesNothingOfTheDead(Provider):
    def remove(self, dead: Dead, log: Log, timeout: float) -> Leftovers:
        return Leftovers()


class KnowsNoNames(Provider):
    def named(self) -> Sequence[Named]:
        return ()
