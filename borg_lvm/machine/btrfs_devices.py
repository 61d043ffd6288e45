"""What a btrfs that is mounted lies on, from the kernel and from its superblock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from borg_lvm.linux import btrfs
from borg_lvm.machine import block_devices, btrfs_superblock
from borg_lvm.machine.block_devices import BlockDevice
from borg_lvm.machine.btrfs_superblock import Superblock
from borg_lvm.records import dataclass


@dataclass(frozen=True)
class BtrfsDevices:
    """The names of the devices of a btrfs, as the kernel has them now, and what is on the disk.

    None: it cannot be read, or there is none where the first one is to be.
    """

    devices: tuple[str, ...]
    superblock: Superblock | None = None


def look(stack: Mapping[str, BlockDevice]) -> dict[str, BtrfsDevices]:
    """Return what is known of each btrfs on these devices, by the number of its first one."""
    by_number = {}
    for file_system in btrfs.mounted():
        first = stack.get(file_system.devices[0]) if file_system.devices else None
        if first:
            by_number[first.number] = BtrfsDevices(_names(file_system.devices), _superblock(first))
    return by_number


def _names(numbers: Sequence[str]) -> tuple[str, ...]:
    known = block_devices.gather(numbers)
    return tuple(_name(known[number]) if number in known else number for number in numbers)


def _name(device: BlockDevice) -> str:
    return f"/dev/mapper/{device.dm_name}" if device.dm_name else f"/dev/{device.name}"


def _superblock(device: BlockDevice) -> Superblock | None:
    if device.dm_name:
        with suppress(OSError):
            return btrfs_superblock.read(f"/dev/mapper/{device.dm_name}")
    return None
