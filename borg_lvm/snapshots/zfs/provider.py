"""ZFS as a provider of snapshots: of the datasets that are mounted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from borg_lvm.linux import syscalls
from borg_lvm.machine import block_devices, mounts, zfs_datasets
from borg_lvm.machine.mounts import ZFS
from borg_lvm.machine.zfs_datasets import Dataset
from borg_lvm.planning.volumes import Volumes
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots.monitor import MonitoredApart
from borg_lvm.snapshots.provider import Growth, Monitors, Named, Prepared, Provider, RunContext
from borg_lvm.snapshots.zfs import device, hold, library, monitored, removal

if TYPE_CHECKING:
    from borg_lvm.linux.device_mapper import Fill
    from borg_lvm.linux.processes import Process
    from borg_lvm.log import Log
    from borg_lvm.machine.lvm import Volume
    from borg_lvm.planning.plan import Snapshot
    from borg_lvm.state.dead_run import Dead

_SAFE = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
_FLAGS = {"noexec": syscalls.MS_NOEXEC, "nosymfollow": syscalls.MS_NOSYMFOLLOW}


class ZfsProvider(Provider):
    """Serves mounts of datasets, however they were mounted: by ZFS itself, by fstab, encrypted ones with their key.

    A dataset cannot be held. All of one pool are snapshotted in one step, so planning has those of one pool in a
    window. A snapshot bears the run's name, its property and a hold. In the ledger: `dataset` before anything is made.
    """

    def look(self, devices: Sequence[str], timeout: float) -> Volumes:
        """See `Provider`. Two processes of ZFS's, if any of these is a dataset."""
        datasets = zfs_datasets.look([mount for mount in mounts.read() if mount.device in devices], timeout)
        numbers = [number for dataset in datasets.values() for number in dataset.devices]
        return Volumes((), block_devices.gather(numbers), trees=datasets)

    def announce(self, run: RunContext, snapshots: Iterable[Snapshot]) -> None:
        """See `Provider`. Nothing is held."""

    def write_down(self, run: RunContext, snapshot: Snapshot) -> None:
        """See `Provider`."""
        assert isinstance(snapshot.origin, Dataset)
        run.ledger.write("dataset", name=snapshot.full_name, pool=snapshot.origin.pool_id)

    def prepared(
        self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]
    ) -> AbstractContextManager[Prepared]:
        """See `Provider`."""
        return hold.prepared(run, group)

    def device(self, snapshot: Snapshot) -> int:
        """See `Provider`. It keeps the number until it is released."""
        return device.kept(snapshot.full_name)

    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        """See `Provider`. By its name, never by the `.zfs` of the dataset."""
        flags |= _SAFE | sum(_FLAGS[word] for word in snapshot.flags)
        try:
            syscalls.mount(snapshot.full_name, point, ZFS, flags, snapshot.options)
        except OSError as error:
            error.add_note(f"mounting {snapshot.full_name}")
            raise

    def fill(self, run: RunContext, snapshot: Snapshot) -> Fill:
        """See `Provider`. One ioctl."""
        return monitored.fill(snapshot)

    def monitors(self, run: RunContext, growth: Growth) -> Monitors:
        """See `Provider`."""
        return Monitors([MonitoredApart(snapshot, monitored.fill) for snapshot in run.plan.snapshots], [])

    def released(self, run: RunContext, *, keep: bool) -> AbstractContextManager[Leftovers]:
        """See `Provider`."""
        library.load()
        return removal.released(run, keep=keep)

    def named(self) -> Sequence[Named]:
        """See `Provider`."""
        return removal.named()

    def resume(self, dead: Dead, log: Log) -> None:
        """See `Provider`. Nothing was held."""

    def programs(self, dead: Dead) -> list[Process]:
        """See `Provider`. None is left at work: those that we start only look, or set a property."""
        return []

    def disarm(self, dead: Dead, timeout: float) -> None:
        """See `Provider`. Nothing is made ready that outlives its run."""

    def devices(self, dead: Dead) -> list[int]:
        """See `Provider`."""
        return removal.devices(dead.run_id)

    def remove(self, dead: Dead, log: Log, timeout: float) -> Leftovers:
        """See `Provider`."""
        return removal.clean(dead, log, timeout)

    def mend(
        self, mapped: Mapping[str, str], volumes: Sequence[Volume], log: Log, timeout: float
    ) -> tuple[bool, Leftovers]:
        """See `Provider`. Each snapshot is there or not."""
        return False, Leftovers()
