"""What the superblock of an ext2, ext3 or ext4 says of its journal. Source: the kernel's fs/ext4/ext4.h."""

from __future__ import annotations

import os
import struct

from borg_lvm.linux import safe_open
from borg_lvm.records import dataclass

FAMILY = frozenset(("ext2", "ext3", "ext4"))
_BEGIN, _SIZE = 1024, 1024
_MAGIC = 0xEF53
_HAS_JOURNAL, _RECOVER = 0x4, 0x4
"""Of the compatible and of the incompatible features."""


@dataclass(frozen=True)
class Journal:
    """Where the journal is, and whether there is something in it that the file system itself lacks."""

    elsewhere: bool = False
    dirty: bool = False


def journal(device: str) -> Journal:
    """Read it from a device of ours. Raises: OSError."""
    fd = safe_open.own_device_opened(device)
    try:
        return parse(os.pread(fd, _SIZE, _BEGIN))
    finally:
        os.close(fd)


def parse(superblock: bytes) -> Journal:
    """Read it from a superblock; one that is none says nothing. Pure."""
    if len(superblock) < _SIZE or struct.unpack_from("<H", superblock, 0x38)[0] != _MAGIC:
        return Journal()
    compatible, incompatible = struct.unpack_from("<2I", superblock, 0x5C)
    inode, device = struct.unpack_from("<2I", superblock, 0xE0)
    elsewhere = bool(compatible & _HAS_JOURNAL) and not inode and bool(device or any(superblock[0xD0:0xE0]))
    return Journal(elsewhere, bool(incompatible & _RECOVER))
