"""btrfs as a provider, lying in one way each: `CAUGHT` as in `wrong.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from borg_lvm.linux import syscalls
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.log import Log
from borg_lvm.machine.btrfs_subvolumes import Tree
from borg_lvm.machine.mounts import Mount
from borg_lvm.planning.plan import Snapshot
from borg_lvm.planning.volumes import SnapshotCandidate, Volumes
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots.btrfs.provider import BtrfsProvider
from borg_lvm.snapshots.provider import Growth, Monitors, Named, Prepared, RunContext
from borg_lvm.state.dead_run import Dead
from tests.contract.providers.wrong import WrongHold, WrongPrepared


class ServesEverything(BtrfsProvider):
    def look(self, devices: Sequence[str], timeout: float) -> Volumes:
        found = super().look(devices, timeout)

        class All(Volumes):
            def find(self, mount: Mount, inside: str = "") -> SnapshotCandidate | str:
                (tree,) = found._trees.values()
                assert isinstance(tree, Tree)
                return SnapshotCandidate(tree.holding("/"), None, apart=True)

        return All((), {})


class TakesThemLast(BtrfsProvider):
    """Takes each snapshot when the others have been taken: what came later may be in it."""

    @contextmanager
    def prepared(self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]) -> Iterator[Prepared]:
        class Late(WrongHold):
            def appear(self) -> None:
                pass

            def prove(self) -> None:
                self.right.appear()

        with super().prepared(run, group, fds) as ready:
            yield WrongPrepared(ready, Late)


class MountsTheOriginal(BtrfsProvider):
    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        syscalls.mount(snapshot.mounted_at, point, None, syscalls.MS_BIND)
        flags |= syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount(None, point, None, flags)


class TakesALostOneForRight(BtrfsProvider):
    def fill(self, run: RunContext, snapshot: Snapshot) -> Fill:
        return Fill(0, 0)


class WatchesNothing(BtrfsProvider):
    def monitors(self, run: RunContext, growth: Growth) -> Monitors:
        return Monitors((), ())


class LeavesSnapshots(BtrfsProvider):
    def released(self, run: RunContext, *, keep: bool) -> AbstractContextManager[Leftovers]:
        return nullcontext(Leftovers())


class RemovesNothingOfTheDead(BtrfsProvider):
    def remove(self, dead: Dead, log: Log, timeout: float) -> Leftovers:
        return Leftovers()


class KnowsNoNames(BtrfsProvider):
    def named(self) -> Sequence[Named]:
        return ()


CAUGHT: dict[type[BtrfsProvider], tuple[str, str]] = {
    ServesEverything: ("it_tells_which_mounts_it_serves", "it serves what it cannot snapshot"),
    TakesThemLast: ("all_snapshots_show_one_moment", "the snapshot is not of the moment"),
    MountsTheOriginal: ("a_snapshot_is_mounted_as_it_is_asked_to", "its device has another number"),
    TakesALostOneForRight: ("a_lost_snapshot_is_told", "a lost snapshot counts as right"),
    WatchesNothing: ("a_lost_snapshot_is_told", "it does not watch every snapshot"),
    LeavesSnapshots: ("nothing_is_left[False]", "it says that it has removed all"),
    RemovesNothingOfTheDead: ("what_a_dead_run_leaves_is_found_and_removed[made]", "left by a run that died"),
    KnowsNoNames: ("what_a_power_cut_leaves_is_found_without_a_ledger", "subvolume borg_lvm-"),
}
