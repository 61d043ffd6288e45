"""LVM as a provider, lying in one way each.

`CAUGHT` has the test of the contract that must fail for it, and the words with which that fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from borg_lvm.linux import syscalls
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.log import Log
from borg_lvm.machine.mounts import Mount
from borg_lvm.planning.plan import Snapshot
from borg_lvm.planning.volumes import SnapshotCandidate, Volumes
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots.lvm.provider import LvmProvider
from borg_lvm.snapshots.provider import Growth, Hold, Monitors, Prepared, RunContext
from borg_lvm.state.dead_run import Dead


class ServesEverything(LvmProvider):
    def look(self, devices: Sequence[str], timeout: float) -> Volumes:
        class All(Volumes):
            def find(self, mount: Mount, inside: str = "") -> SnapshotCandidate | str:
                return SnapshotCandidate(self.inventory.volumes[0], None)

        found = super().look(devices, timeout)
        return All(found.inventory.volumes, {}, found.inventory.groups)


class TellsNoWatchdog(LvmProvider):
    def announce(self, run: RunContext, snapshots: Iterable[Snapshot]) -> None:
        pass


class WritesNothingDown(LvmProvider):
    def write_down(self, run: RunContext, snapshot: Snapshot) -> None:
        pass


class MountsTheOriginal(LvmProvider):
    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        syscalls.mount(snapshot.mounted_at, point, None, syscalls.MS_BIND)
        flags |= syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount(None, point, None, flags)


class MountsWritable(LvmProvider):
    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        super().mount(snapshot, point, flags & ~syscalls.MS_RDONLY)


class TakesALostOneForRight(LvmProvider):
    def fill(self, run: RunContext, snapshot: Snapshot) -> Fill:
        return Fill(0, 0)


class WatchesNothing(LvmProvider):
    def monitors(self, run: RunContext, growth: Growth) -> Monitors:
        return Monitors((), ())


class LeavesSnapshots(LvmProvider):
    def released(self, run: RunContext, *, keep: bool) -> AbstractContextManager[Leftovers]:
        return nullcontext(Leftovers())


class ResumesNothingOfTheDead(LvmProvider):
    def resume(self, dead: Dead, log: Log) -> None:
        pass


class RemovesNothingOfTheDead(LvmProvider):
    def remove(self, dead: Dead, log: Log, timeout: float) -> Leftovers:
        return Leftovers()


class WrongHold:
    """A hold that does what another one does, but for what a derived class changes."""

    def __init__(self, right: Hold) -> None:
        self.right = right
        self.name = right.name

    @property
    def seconds(self) -> float:
        return self.right.seconds

    def suspend(self) -> None:
        self.right.suspend()

    def appear(self) -> None:
        self.right.appear()

    def prove(self) -> None:
        self.right.prove()

    def resume(self) -> None:
        self.right.resume()

    def give_up(self) -> None:
        self.right.give_up()


class WrongHolds(LvmProvider):
    """Hands out wrong holds."""

    hold: type[WrongHold]

    @contextmanager
    def prepared(self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]) -> Iterator[Prepared]:
        with super().prepared(run, group, fds) as ready:
            yield WrongPrepared(ready, self.hold)


class WrongPrepared:
    def __init__(self, right: Prepared, kind: type[WrongHold]) -> None:
        self._right = right
        self._kind = kind

    @contextmanager
    def completed(self) -> Iterator[Sequence[Hold]]:
        with self._right.completed() as holds:
            yield [self._kind(hold) for hold in holds]

    def prove(self) -> Mapping[str, str]:
        return self._right.prove()

    def transactions(self) -> Mapping[str, int]:
        return self._right.transactions()


class HoldsAtTheLastMoment(WrongHolds):
    """Suspends each volume right before its snapshot: one after the other, as everybody does."""

    class Wrong(WrongHold):
        def suspend(self) -> None:
            pass

        def appear(self) -> None:
            self.right.suspend()
            self.right.appear()

    hold = Wrong


class TellsNoTime(WrongHolds):
    class Wrong(WrongHold):
        @property
        def seconds(self) -> float:
            return 0.0

    hold = Wrong


class ProvesNothing(WrongHolds):
    class Wrong(WrongHold):
        def prove(self) -> None:
            pass

    hold = Wrong


class ForgetsToGiveUp(WrongHolds):
    class Wrong(WrongHold):
        def give_up(self) -> None:
            pass

    hold = Wrong


CAUGHT: dict[type[LvmProvider], tuple[str, str]] = {
    ServesEverything: ("it_says_which_mounts_it_serves", "it serves what it cannot snapshot"),
    HoldsAtTheLastMoment: ("all_snapshots_show_one_moment", "a write went through while all were held"),
    TellsNoTime: ("all_snapshots_show_one_moment", "it held them for longer than it reports"),
    MountsTheOriginal: ("a_snapshot_is_mounted_as_it_is_asked_to", "its device has another number"),
    MountsWritable: ("a_snapshot_is_mounted_as_it_is_asked_to", "DID NOT RAISE"),
    TakesALostOneForRight: ("a_lost_snapshot_is_reported", "a lost snapshot counts as right"),
    WatchesNothing: ("a_lost_snapshot_is_reported", "it does not watch every snapshot"),
    LeavesSnapshots: ("nothing_is_left[False]", "it says that it has removed all"),
    ForgetsToGiveUp: ("all_go_on_as_before_when_one_fails", "takes no writes"),
    TellsNoWatchdog: ("the_watchdog_resumes_what_is_held_too_long", "takes no writes"),
    ProvesNothing: ("it_proves_that_they_were_held", "DID NOT RAISE"),
    WritesNothingDown: ("what_a_dead_run_leaves_is_found_and_removed[suspended]", "suspended device"),
    ResumesNothingOfTheDead: ("what_a_dead_run_leaves_is_found_and_removed[suspended]", "suspended device"),
    RemovesNothingOfTheDead: ("what_a_dead_run_leaves_is_found_and_removed[made]", "left by a run that died"),
}
