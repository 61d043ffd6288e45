"""Superblocks that mkfs.btrfs and btrfstune (6.2) have written: read, and given another id."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path

import pytest

from borg_lvm.machine import btrfs_superblock
from borg_lvm.machine.btrfs_superblock import CHECKSUMS, Superblock, crc32c, file_system_id, parse, renamed, xxh64

RECORDED = {
    name: zlib.decompress(base64.b64decode(text))
    for name, text in json.loads((Path(__file__).parents[1] / "data" / "btrfs-superblocks.json").read_text()).items()
}
OLD, NEW = bytes.fromhex("11111111222233334444555555555555"), bytes.fromhex("99999999888877776666555555555555")
KINDS = ["crc32c", "xxhash", "sha256", "blake2"]


def signed(block: bytes, at: int, form: str, value: int) -> bytes:
    """Return a superblock with a field changed, and its checksum (crc32c) made anew."""
    changed = bytearray(block)
    struct.pack_into(form, changed, at, value)
    return crc32c(bytes(changed[32:])) + bytes(changed[4:])


@pytest.mark.parametrize("kind", KINDS)
def test_what_mkfs_writes(kind: str) -> None:
    assert parse(RECORDED[kind]) == Superblock(1, checksum=KINDS.index(kind))
    assert file_system_id(RECORDED[kind]) == OLD


@pytest.mark.parametrize("kind", KINDS)
def test_each_checksum_is_checked(kind: str) -> None:
    block = bytearray(RECORDED[kind])
    block[2000] ^= 1
    assert parse(bytes(block)) is None
    with pytest.raises(ValueError, match="no superblock"):
        renamed(bytes(block), NEW)


def test_another_id_is_what_btrfstune_makes_of_it() -> None:
    """But for the generation, which its two transactions raise, and the trees that they write."""
    ours, theirs = renamed(RECORDED["crc32c"], NEW), RECORDED["btrfstune -M"]
    for begin, size in ((0x20, 16), (0x38, 16), (0x88, 8), (0xBC, 8), (0xC4, 2), (0x23B, 16)):
        assert ours[begin : begin + size] == theirs[begin : begin + size], hex(begin)
    assert ours[0xC9 + 82 : 0xC9 + 98] == theirs[0xC9 + 82 : 0xC9 + 98] == OLD  # the device's own copy of the old id


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_is_changed(kind: str) -> None:
    old, new = RECORDED[kind], renamed(RECORDED[kind], NEW)
    assert (len(new), file_system_id(new), parse(new)) == (4096, NEW, parse(old))
    changed = {at for at in range(4096) if old[at] != new[at]}
    assert changed <= {*range(48), 0xBD, *range(0x23B, 0x24B)}
    assert renamed(new, OLD)[0x23B:0x24B] == OLD  # the id of the trees stays, whatever comes after


def test_what_is_told_of_others() -> None:
    assert parse(RECORDED["two devices"]) == Superblock(2)
    assert parse(RECORDED["seed"]) == Superblock(1, seed=True)
    plain = RECORDED["crc32c"]
    (incompatible,) = struct.unpack_from("<Q", plain, 0xBC)
    assert parse(signed(plain, 0xBC, "<Q", incompatible | 1 << 12)) == Superblock(1, zoned=True)
    for bit in range(33, 38):
        assert parse(signed(plain, 0x38, "<Q", 1 | 1 << bit)) == Superblock(1, changing=True)


def test_a_kind_of_checksum_that_nobody_knows_yet() -> None:
    block = bytearray(RECORDED["crc32c"])
    struct.pack_into("<H", block, 0xC4, 9)
    assert parse(bytes(block)) == Superblock(1, checksum=9)
    with pytest.raises(ValueError, match="no superblock"):
        renamed(bytes(block), NEW)


@pytest.mark.parametrize("block", [b"", bytes(4096), RECORDED["crc32c"][:4095]])
def test_no_superblock(block: bytes) -> None:
    assert parse(block) is None


def test_a_mirror_is_not_taken_for_the_first() -> None:
    assert parse(signed(RECORDED["crc32c"], 0x30, "<Q", 64 << 20)) is None


def test_the_hashes() -> None:
    assert set(CHECKSUMS) == {0, 1, 2, 3}
    assert crc32c(b"123456789").hex() == "839206e3"  # RFC 3720: 0xe3069283
    assert xxh64(bytes(range(96)) * 2)[::-1].hex() == "e0ef5b34a5cf72ba"  # PyPI's xxhash 4.1 says the same


def test_read(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(64 << 10) + RECORDED["sha256"])
    assert btrfs_superblock.read(str(image)) == Superblock(1, checksum=2)
