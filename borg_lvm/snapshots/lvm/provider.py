"""LVM as a provider of snapshots: of logical volumes, also below LUKS, thick and thin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import btrfs, safe_open, syscalls
from borg_lvm.machine import block_devices, ext_superblock, lvm, lvm_groups
from borg_lvm.machine.lvm import Volume, dm_name
from borg_lvm.machine.lvm_settings import TYPED
from borg_lvm.machine.mounts import BTRFS
from borg_lvm.planning.volumes import Volumes
from borg_lvm.snapshots.lvm import shell
from borg_lvm.snapshots.lvm.shell import KeptShell
from borg_lvm.snapshots.provider import Growth, Monitors, Named, Prepared, Provider, RunContext

if TYPE_CHECKING:
    from borg_lvm.linux.device_mapper import Fill
    from borg_lvm.linux.processes import Process
    from borg_lvm.log import Log
    from borg_lvm.machine.block_devices import BlockDevice
    from borg_lvm.machine.btrfs_devices import BtrfsDevices
    from borg_lvm.planning.plan import Snapshot
    from borg_lvm.reporting.outcome import Leftovers
    from borg_lvm.state.dead_run import Dead

_REPORT = (*shell.AS_ROWS, "--units", "b", "--config", TYPED, "--options")
_SAFE = syscalls.MS_NOSUID | syscalls.MS_NODEV
_FLAGS = {"noexec": syscalls.MS_NOEXEC, "nosymfollow": syscalls.MS_NOSYMFOLLOW}


class LvmProvider(Provider):
    """Serves mounts of file systems on logical volumes, and the volumes themselves. Each of them can be held.

    A file system above LUKS is frozen before its volume is suspended (`Snapshot.hold`). The snapshots carry both tags
    of the plan. In the ledger: `snapshot` and `below` before anything is made, `program` for LVM's shell, `armed` for
    what is done in the kernel, `made` for each snapshot.

    Each method imports its own part, for a plan asks for `look` alone. A run calls `released` and `prepared` before its
    windows: nothing is imported in one.
    """

    def __init__(self) -> None:
        self._shell = KeptShell()

    def look(self, devices: Sequence[str], timeout: float) -> Volumes:
        """See `Provider`. One process of LVM's, which stays for `prepared`, few more for full pools, or what is odd."""
        listed = _typed(self._shell, timeout) or lvm.inventory(timeout)
        stack = block_devices.gather(devices)
        return Volumes(listed.volumes, stack, listed.groups, _btrfs(stack))

    def close(self) -> None:
        """See `Provider`."""
        self._shell.close()

    def announce(self, run: RunContext, snapshots: Iterable[Snapshot]) -> None:
        """See `Provider`."""
        for snapshot in snapshots:
            for uuid in _suspended(snapshot):
                run.watchdog.may_suspend(snapshot.origin.full_name, uuid)

    def write_down(self, run: RunContext, snapshot: Snapshot) -> None:
        """See `Provider`."""
        origin = snapshot.origin
        run.ledger.write("snapshot", name=snapshot.full_name, origin=origin.dm_uuid, volume=origin.full_name)
        for uuid in _suspended(snapshot)[1:]:
            run.ledger.write("below", device=uuid)

    def prepared(
        self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]
    ) -> AbstractContextManager[Prepared]:
        """See `Provider`. LVM's lock is free in the block: applications may use LVM until they are quiesced."""
        from borg_lvm.snapshots.lvm import prepared

        return prepared.prepared(run, group, fds, self._shell)

    def device(self, snapshot: Snapshot) -> int:
        """See `Provider`."""
        return safe_open.own_device_number(snapshot.device)

    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        """See `Provider`."""
        name = snapshot.origin.full_name
        if snapshot.without_journal and ext_superblock.journal(snapshot.device).dirty:
            raise SnapshotError(
                f"the snapshot of {name} lacks what is in its journal, which is on another device",
                remedy="report this, with the kernel's version: it has not frozen the file system as it should",
            )
        if snapshot.fstype == BTRFS:
            from borg_lvm.snapshots.lvm import btrfs_snapshot

            btrfs_snapshot.give_own_id(snapshot)
        flags |= _SAFE | sum(_FLAGS[word] for word in snapshot.flags)
        try:
            syscalls.mount(snapshot.device, point, snapshot.fstype, flags, snapshot.options)
        except OSError as error:
            error.add_note(f"mounting {snapshot.device}, the snapshot of {name}, as {snapshot.fstype}")
            raise

    def fill(self, run: RunContext, snapshot: Snapshot) -> Fill:
        """See `Provider`. One ioctl."""
        from borg_lvm.linux import device_mapper

        return device_mapper.fill(snapshot.dm_name, _ids(run).get(snapshot.full_name, ""))

    def monitors(self, run: RunContext, growth: Growth) -> Monitors:
        """See `Provider`. Of a thin pool its data and its metadata; a look is one ioctl each."""
        from borg_lvm.snapshots.lvm.extend import Grower
        from borg_lvm.snapshots.lvm.monitored import MonitoredPool, MonitoredSnapshot, MonitorMeans

        snapshots, ids = run.plan.snapshots, _ids(run)
        means = MonitorMeans(growth, Grower(run.watchdog, run.ledger, run.log, run.timeout), run.log)
        groups = [snapshot.origin.vg_uuid for snapshot in snapshots if snapshot.extents]
        pools = {
            (snapshot.origin.vg, snapshot.origin.pool): snapshot.origin
            for snapshot in snapshots
            if not snapshot.extents
        }
        return Monitors(
            [
                MonitoredSnapshot(
                    snapshot, ids.get(snapshot.full_name, ""), groups.count(snapshot.origin.vg_uuid), means
                )
                for snapshot in snapshots
            ],
            [MonitoredPool(origin, what, means) for origin in pools.values() for what in ("data", "metadata")],
        )

    def released(self, run: RunContext, *, keep: bool) -> AbstractContextManager[Leftovers]:
        """See `Provider`."""
        from borg_lvm.snapshots.lvm.removal import remove

        return remove.released(run, keep=keep)

    def named(self) -> Sequence[Named]:
        """See `Provider`. LVM lists them all."""
        return ()

    def resume(self, dead: Dead, log: Log) -> None:
        """See `Provider`."""
        from borg_lvm.snapshots.lvm.removal import clean

        clean.resume(dead, log)

    def programs(self, dead: Dead) -> list[Process]:
        """See `Provider`."""
        from borg_lvm.snapshots.lvm.removal import clean

        return clean.programs(dead)

    def disarm(self, dead: Dead, timeout: float) -> None:
        """See `Provider`."""
        from borg_lvm.snapshots.lvm.removal import clean

        clean.disarm(dead, timeout)

    def devices(self, dead: Dead) -> list[int]:
        """See `Provider`."""
        devices = []
        for name in dead.snapshots:
            with suppress(OSError):
                devices.append(safe_open.own_device_number(f"/dev/mapper/{dm_name(*name.split('/'))}"))
        return devices

    def remove(self, dead: Dead, log: Log, timeout: float) -> Leftovers:
        """See `Provider`."""
        from borg_lvm.snapshots.lvm.removal import clean

        return clean.remove(dead, log, timeout)

    def mend(
        self, mapped: Mapping[str, str], volumes: Sequence[Volume], log: Log, timeout: float
    ) -> tuple[bool, Leftovers]:
        """See `Provider`."""
        from borg_lvm.snapshots.lvm.removal import clean

        return clean.mend(mapped, volumes, log, timeout)


def _typed(kept: KeptShell, timeout: float) -> lvm.Inventory | None:
    """Ask for volumes and groups in a shell, as `lvm.inventory` does by programs, which take several times as long.

    Returns None where LVM says anything but rows, which is for programs to judge: a shell gives no exit status, so only
    a report without a warning or an error is known to be whole.
    Raises: ProgramError when the shell does not answer in time, or what is asked besides fails.
    """
    try:
        ours = kept.shell(timeout)
        volumes = shell.only_rows(ours.run(["lvs", *_REPORT, lvm.FIELDS]), lvm.FIELDS.split(","))
        disks = shell.only_rows(ours.run([*lvm_groups.ALL, *_REPORT, lvm_groups.FIELDS]), lvm_groups.FIELDS.split(","))
    except shell.EndedError:
        return None
    if volumes is None or disks is None:
        return None
    with suppress(ValueError, LookupError):
        return lvm.joined(lvm.of_rows(volumes), lvm_groups.completed(lvm_groups.of_rows(disks), timeout), timeout)
    return None


def _btrfs(stack: Mapping[str, BlockDevice]) -> Mapping[str, BtrfsDevices]:
    """Return what is known of each btrfs on these devices."""
    if not btrfs.mounted():
        return {}
    from borg_lvm.machine import btrfs_devices

    return btrfs_devices.look(stack)


def _suspended(snapshot: Snapshot) -> list[str]:
    """Return the uuids of what is suspended for a snapshot, what lies below last."""
    uuid = snapshot.origin.dm_uuid
    return [uuid, f"{uuid}-real"] if snapshot.origin.is_thin and snapshot.origin.attr[0] in "oO" else [uuid]


def _ids(run: RunContext) -> dict[str, str]:
    """Return the device-mapper uuids of the snapshots that were made, by their names (`vg/lv`)."""
    return {name: uuid for uuid, name in run.ledger.snapshots.items()}
