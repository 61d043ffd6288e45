"""The superblock of a btrfs: what it says of its devices, and the same with another id.

Source: the kernel's include/uapi/linux/btrfs_tree.h (struct btrfs_super_block), fs/btrfs/disk-io.c
(btrfs_check_super_csum, btrfs_validate_super).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Mapping

from borg_lvm.linux import safe_open
from borg_lvm.records import dataclass

BEGIN, SIZE = 64 << 10, 4096
_CHECKED = 32
"""So many bytes at the beginning are the checksum of the rest."""
_ID, _POSITION, _FLAGS, _MAGIC, _DEVICES, _INCOMPATIBLE, _CHECKSUM, _METADATA_ID = (
    *(0x20, 0x30, 0x38, 0x40, 0x88, 0xBC, 0xC4),
    0x23B,
)
_IS_BTRFS = b"_BHRfS_M"
_HAS_METADATA_ID, _ZONED = 1 << 10, 1 << 12
_SEED = 1 << 32
_CHANGING = 0b11111 << 33
"""A dump of the metadata alone, or an id or a tree that is being changed. Source: BTRFS_SUPER_FLAG_* there."""
_MASK = 0xFFFFFFFF
_MASK64 = (1 << 64) - 1


@dataclass(frozen=True)
class Superblock:
    """What is on the disk: how many devices there are, and what keeps a snapshot of one of them from being used."""

    devices: int
    seed: bool = False
    zoned: bool = False
    changing: bool = False
    checksum: int = 0
    """How checksums are made: a key of CHECKSUMS, if it is known."""

    @property
    def is_writable(self) -> bool:
        """Whether we can make its checksum."""
        return self.checksum in CHECKSUMS


def crc32c(data: bytes) -> bytes:
    """Return the checksum that btrfs has by default. Source: RFC 3720, appendix B.4."""
    crc = _MASK
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("<I", crc ^ _MASK)


_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4 = 0x85EBCA77C2B2AE63


def xxh64(data: bytes) -> bytes:
    """Return the hash of data, a multiple of 32 bytes as here, with seed 0. Source: xxhash_spec.md, XXH64."""
    lanes = [(_P1 + _P2) & _MASK64, _P2, 0, -_P1 & _MASK64]
    for words in struct.iter_unpack("<4Q", data):
        lanes = [_round(lane, word) for lane, word in zip(lanes, words, strict=True)]
    result = sum(_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK64
    for lane in lanes:
        result = ((result ^ _round(0, lane)) * _P1 + _P4) & _MASK64
    result = (result + len(data)) & _MASK64
    result = (result ^ result >> 33) * _P2 & _MASK64
    result = (result ^ result >> 29) * _P3 & _MASK64
    return struct.pack("<Q", result ^ result >> 32)


def _round(lane: int, word: int) -> int:
    return _rotated((lane + word * _P2) & _MASK64, 31) * _P1 & _MASK64


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _MASK64


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _blake2(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


CHECKSUMS: Mapping[int, Callable[[bytes], bytes]] = {0: crc32c, 1: xxh64, 2: _sha256, 3: _blake2}
"""By the number in the superblock. Source: btrfs_csum_type in btrfs_tree.h."""


def read(device: str) -> Superblock | None:
    """Read that of a device of ours; None if there is none. Raises: OSError."""
    fd = safe_open.own_device_opened(device)
    try:
        return parse(os.pread(fd, SIZE, BEGIN))
    finally:
        os.close(fd)


def parse(block: bytes) -> Superblock | None:
    """Read it; None if it is none, or its checksum is wrong. Pure."""
    if not _is_sound(block):
        return None
    (flags,) = struct.unpack_from("<Q", block, _FLAGS)
    (devices,) = struct.unpack_from("<Q", block, _DEVICES)
    (incompatible,) = struct.unpack_from("<Q", block, _INCOMPATIBLE)
    (checksum,) = struct.unpack_from("<H", block, _CHECKSUM)
    return Superblock(
        devices, bool(flags & _SEED), bool(incompatible & _ZONED), bool(flags & _CHANGING), checksum=checksum
    )


def _is_sound(block: bytes) -> bool:
    if len(block) < SIZE or block[_MAGIC : _MAGIC + 8] != _IS_BTRFS:
        return False
    if struct.unpack_from("<Q", block, _POSITION)[0] != BEGIN:
        return False
    checksum = CHECKSUMS.get(struct.unpack_from("<H", block, _CHECKSUM)[0])
    return checksum is None or block.startswith(checksum(block[_CHECKED:]))


def file_system_id(block: bytes) -> bytes:
    """Return the id (16 bytes) by which the kernel knows the file system of a superblock. Pure."""
    return block[_ID : _ID + 16]


def renamed(block: bytes, new: bytes) -> bytes:
    """Return a superblock with another id (16 bytes) for the kernel; what is in its trees has the old one. Pure.

    As `btrfstune -m` leaves it, which is what the feature METADATA_UUID is for (Linux 5.0).
    Raises: ValueError when it is none, or its checksum cannot be made.
    """
    seen = parse(block)
    if seen is None or seen.checksum not in CHECKSUMS:
        raise ValueError("no superblock of a btrfs that can be written")
    changed = bytearray(block)
    (incompatible,) = struct.unpack_from("<Q", block, _INCOMPATIBLE)
    if not incompatible & _HAS_METADATA_ID:
        changed[_METADATA_ID : _METADATA_ID + 16] = file_system_id(block)
        struct.pack_into("<Q", changed, _INCOMPATIBLE, incompatible | _HAS_METADATA_ID)
    changed[_ID : _ID + 16] = new
    checksum = CHECKSUMS[seen.checksum](bytes(changed[_CHECKED:]))
    changed[: len(checksum)] = checksum
    return bytes(changed)
