"""ZFS as a provider, lying in one way each: `CAUGHT` as in `wrong.py`."""

from __future__ import annotations

from collections.abc import Sequence

from borg_lvm.machine.mounts import Mount
from borg_lvm.planning.volumes import SnapshotCandidate, Volumes
from borg_lvm.snapshots.zfs.provider import ZfsProvider
from tests.contract.providers import wrong_apart


class ServesEverything(ZfsProvider):
    def look(self, devices: Sequence[str], timeout: float) -> Volumes:
        found = super().look(devices, timeout)

        class All(Volumes):
            def find(self, mount: Mount, inside: str = "") -> SnapshotCandidate | str:
                first = next(iter(found._trees.values()))
                return SnapshotCandidate(first, None, apart=True)  # type: ignore[arg-type]

        return All((), {})


class TakesThemLast(wrong_apart.TakesThemLast, ZfsProvider):
    pass


class TakesOneAfterTheOther(wrong_apart.TakesOneAfterTheOther, ZfsProvider):
    pass


class MountsTheOriginal(wrong_apart.MountsTheOriginal, ZfsProvider):
    pass


class TakesALostOneForRight(wrong_apart.TakesALostOneForRight, ZfsProvider):
    pass


class WatchesNothing(wrong_apart.WatchesNothing, ZfsProvider):
    pass


class LeavesSnapshots(wrong_apart.LeavesSnapshots, ZfsProvider):
    pass


class RemovesNothingOfTheDead(wrong_apart.RemovesNothingOfTheDead, ZfsProvider):
    pass


class KnowsNoNames(wrong_apart.KnowsNoNames, ZfsProvider):
    pass


CAUGHT: dict[type[ZfsProvider], tuple[str, str]] = {
    ServesEverything: ("it_says_which_mounts_it_serves", "it serves what it cannot snapshot"),
    TakesThemLast: ("all_snapshots_show_one_moment", "the snapshot is not of the moment"),
    TakesOneAfterTheOther: ("all_snapshots_show_one_moment", "the snapshot is not of the moment"),
    MountsTheOriginal: ("a_snapshot_is_mounted_as_it_is_asked_to", "its device has another number"),
    TakesALostOneForRight: ("a_lost_snapshot_is_reported", "a lost snapshot counts as right"),
    WatchesNothing: ("a_lost_snapshot_is_reported", "it does not watch every snapshot"),
    LeavesSnapshots: ("nothing_is_left[False]", "it says that it has removed all"),
    RemovesNothingOfTheDead: ("what_a_dead_run_leaves_is_found_and_removed[made]", "left by a run that died"),
    KnowsNoNames: ("what_a_power_cut_leaves_is_found_without_a_ledger", "@borg_lvm-"),
}
