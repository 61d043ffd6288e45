"""Gives the btrfs in a snapshot an id of its own, before it is mounted for the first time.

The kernel knows a btrfs by its id, whatever device it is found on, and Linux before 6.7 mounts no second one of the
same. So the superblock of the snapshot gets another id, in one write of 4 KiB; nothing else is changed, for the feature
METADATA_UUID keeps the old id for what lies in the trees. A run that dies before leaves a snapshot with the old id,
after it one with the new: both are only removed.

Not by `btrfstune -m`, which does the same in two steps, with a mark between them (CHANGING_FSID_V2) by which Linux 6.1
takes the snapshot, should somebody scan for devices just then, for a device of the live file system.
"""

from __future__ import annotations

import os
import uuid

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import safe_open
from borg_lvm.machine import block_devices, btrfs_superblock
from borg_lvm.machine.btrfs_superblock import BEGIN, SIZE
from borg_lvm.planning.plan import Snapshot


def own_id(snapshot: Snapshot) -> bytes:
    """Return the id (16 bytes) of the file system in a snapshot: another one in each run."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{snapshot.origin.dm_uuid} {snapshot.name}").bytes


def give_own_id(snapshot: Snapshot) -> None:
    """Give the file system in a snapshot its own id, unless it has it. Raises: SnapshotError, OSError."""
    new = own_id(snapshot)
    fd = safe_open.own_device_opened(snapshot.device)
    try:
        block = os.pread(fd, SIZE, BEGIN)
    finally:
        os.close(fd)
    if btrfs_superblock.file_system_id(block) == new:
        return
    try:
        block = btrfs_superblock.renamed(block, new)
    except ValueError as error:
        raise SnapshotError(f"the snapshot of {snapshot.origin.full_name} has no whole btrfs: {error}") from error
    _write(snapshot, block)


def _write(snapshot: Snapshot, block: bytes) -> None:
    """Write the superblock of a snapshot, to that alone.

    O_EXCL: the kernel opens no device so that is mounted. So it cannot be the live one, whatever its name leads to.
    """
    fd = os.open(snapshot.device, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
    try:
        number = os.fstat(fd).st_rdev
        key = f"{os.major(number)}:{os.minor(number)}"
        device = block_devices.gather([key]).get(key)
        if device is None or f"/dev/mapper/{device.dm_name}" != snapshot.device:
            raise SnapshotError(f"{snapshot.device} is not the device of the snapshot; nothing was written")
        os.pwrite(fd, block, BEGIN)
        os.fsync(fd)
    finally:
        os.close(fd)
