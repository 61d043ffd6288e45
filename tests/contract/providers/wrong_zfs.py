"""ZFS as a provider, lying in one way each: `CAUGHT` as in `wrong.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from borg_lvm.linux import syscalls
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.log import Log
from borg_lvm.machine.mounts import Mount
from borg_lvm.planning.plan import Snapshot
from borg_lvm.planning.volumes import SnapshotCandidate, Volumes
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots.provider import Growth, Monitors, Prepared, RunContext
from borg_lvm.snapshots.zfs.provider import ZfsProvider
from borg_lvm.state.dead_run import Dead
from tests.contract.providers.wrong import WrongHold, WrongPrepared


class ServesEverything(ZfsProvider):
    def look(self, devices: Sequence[str], timeout: float) -> Volumes:
        found = super().look(devices, timeout)

        class All(Volumes):
            def find(self, mount: Mount, inside: str = "") -> SnapshotCandidate | str:
                first = next(iter(found._trees.values()))
                return SnapshotCandidate(first, None, apart=True)  # type: ignore[arg-type]

        return All((), {})


class TakesThemLast(ZfsProvider):
    """Takes the snapshots when the others have been taken: what came later may be in them."""

    @contextmanager
    def prepared(self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]) -> Iterator[Prepared]:
        class Late(WrongHold):
            def appear(self) -> None:
                pass

            def prove(self) -> None:
                self.right.appear()

        with super().prepared(run, group, fds) as ready:
            yield WrongPrepared(ready, Late)


class MountsTheOriginal(ZfsProvider):
    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        syscalls.mount(snapshot.mounted_at, point, None, syscalls.MS_BIND)
        flags |= syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount(None, point, None, flags)


class TakesALostOneForRight(ZfsProvider):
    def fill(self, run: RunContext, snapshot: Snapshot) -> Fill:
        return Fill(0, 0)


class WatchesNothing(ZfsProvider):
    def monitors(self, run: RunContext, growth: Growth) -> Monitors:
        return Monitors((), ())


class LeavesSnapshots(ZfsProvider):
    def released(self, run: RunContext, *, keep: bool) -> AbstractContextManager[Leftovers]:
        return nullcontext(Leftovers())


class RemovesNothingOfTheDead(ZfsProvider):
    def remove(self, dead: Dead, log: Log, timeout: float) -> Leftovers:
        return Leftovers()


CAUGHT: dict[type[ZfsProvider], tuple[str, str]] = {
    ServesEverything: ("it_tells_which_mounts_it_serves", "it serves what it cannot snapshot"),
    TakesThemLast: ("all_snapshots_show_one_moment", "the snapshot is not of the moment"),
    MountsTheOriginal: ("a_snapshot_is_mounted_as_it_is_asked_to", "its device has another number"),
    TakesALostOneForRight: ("a_lost_snapshot_is_told", "a lost snapshot counts as right"),
    WatchesNothing: ("a_lost_snapshot_is_told", "it does not watch every snapshot"),
    LeavesSnapshots: ("nothing_is_left[False]", "it says that it has removed all"),
    RemovesNothingOfTheDead: ("what_a_dead_run_leaves_is_found_and_removed[made]", "left by a run that died"),
}
