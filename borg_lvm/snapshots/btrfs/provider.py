"""btrfs as a provider of snapshots: of subvolumes, where no snapshot of one volume would have the whole file system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from borg_lvm.linux import btrfs, syscalls
from borg_lvm.machine import block_devices, btrfs_subvolumes, mounts
from borg_lvm.machine.mounts import BTRFS
from borg_lvm.planning.volumes import Volumes
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots.btrfs import hold, monitored, removal, top_level
from borg_lvm.snapshots.monitor import MonitoredApart
from borg_lvm.snapshots.provider import Growth, Monitors, Named, Prepared, Provider, RunContext

if TYPE_CHECKING:
    from borg_lvm.linux.device_mapper import Fill
    from borg_lvm.linux.processes import Process
    from borg_lvm.log import Log
    from borg_lvm.machine.lvm import Volume
    from borg_lvm.planning.plan import Snapshot
    from borg_lvm.state.dead_run import Dead

_SAFE = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
_FLAGS = {"noexec": syscalls.MS_NOEXEC, "nosymfollow": syscalls.MS_NOSYMFOLLOW}


class BtrfsProvider(Provider):
    """Serves mounts of a btrfs that is not on one logical volume, each path by the subvolume that it lies in.

    A subvolume cannot be held, and several in a window are of one transaction (`one_transaction`). Their snapshots are
    read-only, in a directory of root's in the top level. In the ledger: `subvolume` before anything is made.
    """

    def look(self, devices: Sequence[str], timeout: float) -> Volumes:
        """See `Provider`. No process."""
        trees = btrfs_subvolumes.look([mount for mount in mounts.read() if mount.device in devices])
        numbers = [*devices, *(number for tree in trees.values() for number in tree.devices)]
        return Volumes((), block_devices.gather(numbers), trees=trees)

    def announce(self, run: RunContext, snapshots: Iterable[Snapshot]) -> None:
        """See `Provider`. Nothing is held."""

    def write_down(self, run: RunContext, snapshot: Snapshot) -> None:
        """See `Provider`."""
        assert snapshot.subvolume
        run.ledger.write("subvolume", name=snapshot.full_name, file_system=snapshot.subvolume.file_system)

    def prepared(
        self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]
    ) -> AbstractContextManager[Prepared]:
        """See `Provider`."""
        return hold.prepared(group)

    def device(self, snapshot: Snapshot) -> int:
        """See `Provider`. The number of the subvolume itself, which counts as a file system of its own from now on."""
        assert snapshot.subvolume
        with top_level.directory(snapshot.subvolume.device, snapshot.subvolume.file_system) as directory:
            return removal.number(directory, snapshot.name)

    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        """See `Provider`. Always read-only: a writable mount would make a btrfs writable that is not."""
        assert snapshot.subvolume
        flags |= _SAFE | sum(_FLAGS[word] for word in snapshot.flags)
        try:
            syscalls.mount(snapshot.subvolume.device, point, BTRFS, flags, snapshot.options)
        except OSError as error:
            error.add_note(f"mounting {snapshot.full_name}, the snapshot of {snapshot.origin.full_name}")
            raise

    def fill(self, run: RunContext, snapshot: Snapshot) -> Fill:
        """See `Provider`."""
        return monitored.fill(snapshot)

    def monitors(self, run: RunContext, growth: Growth) -> Monitors:
        """See `Provider`."""
        return Monitors([MonitoredApart(snapshot, monitored.fill) for snapshot in run.plan.snapshots], [])

    def released(self, run: RunContext, *, keep: bool) -> AbstractContextManager[Leftovers]:
        """See `Provider`."""
        return removal.released(run, keep=keep)

    def named(self) -> Sequence[Named]:
        """See `Provider`."""
        return removal.named() if btrfs.mounted() else ()

    def resume(self, dead: Dead, log: Log) -> None:
        """See `Provider`. Nothing was held."""

    def programs(self, dead: Dead) -> list[Process]:
        """See `Provider`. None is started."""
        return []

    def disarm(self, dead: Dead, timeout: float) -> None:
        """See `Provider`. Nothing is made ready that outlives its run."""

    def devices(self, dead: Dead) -> list[int]:
        """See `Provider`."""
        return removal.devices(dead.run_id)

    def remove(self, dead: Dead, log: Log, timeout: float) -> Leftovers:
        """See `Provider`."""
        return removal.clean(dead)

    def mend(
        self, mapped: Mapping[str, str], volumes: Sequence[Volume], log: Log, timeout: float
    ) -> tuple[bool, Leftovers]:
        """See `Provider`. Each snapshot is there or not."""
        return False, Leftovers()
