"""What is in the image of a disk: its partitions, what each holds, and where copies of lost superblocks lie.

By blkid(8) and partx(8), in the sandbox. Sources for superblocks and their copies: the kernel's fs/ext4/ext4.h,
fs/btrfs/disk-io.h and fs/xfs/libxfs/xfs_format.h.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress

from borg_lvm.linux import subprocesses
from borg_lvm.plugins.drill import Bench
from borg_lvm.records import dataclass

SECTOR = 512
"""Bytes in which partx(8) counts, whatever the disk has."""
NOTHING = 2
"""Status of blkid(8) where it knows nothing of what is there."""
EXTENDED = ("0x5", "0xf", "0x85")
"""Types of partitions that only hold others."""
MOST = 128
"""How many partitions are examined: as many as a GPT has by default."""
PIECE = 16 << 20
"""Bytes that are moved at once, and of which there must be room besides."""
LOOK = 1 << 20
EXT_COPIES = (8193 << 10, 16384 << 11, 32768 << 12)
"""Where ext has the first copy of its superblock, by the size of its blocks."""
EXT_MAGIC, EXT_GROUP = (0x38, b"\x53\xef"), (0x5A, b"\1\0")
"""What is in it, and in which place: its magic number, and that of its group of blocks."""
BTRFS_COPY = 64 << 20
BTRFS_MAGIC = (0x40, b"_BHRfS_M")
XFS_MAGIC, XFS_BLOCK, XFS_GROUP = b"XFSB", 4, 84
"""Its magic number, and the places of the size of a block, and of the blocks of a group: a copy begins each group."""


@dataclass(frozen=True)
class Stretch:
    """A part of an image: all of it (`number` 0), or a partition. `begin` and `size` in bytes.

    `kind` is what blkid(8) calls what is there; empty if it knows nothing.
    """

    image: str
    kind: str
    begin: int
    size: int
    number: int = 0

    def __str__(self) -> str:
        return f"{self.image}, partition {self.number}" if self.number else self.image

    def lost(self) -> str:
        """Return of what there is a copy of a superblock, and where; empty if of nothing. Raises: OSError."""
        with open(self.image, "rb", buffering=0) as file:
            for what, begin in _copies(file.fileno(), self):
                return f"of {what}, is at byte {begin:,}"
        return ""

    def moved(self, bench: Bench, target: str) -> str:
        """Have a partition in a file of its own, for checkers know none, and return its path; its place gets a hole.

        So it needs no room besides. All of a disk is where it is already. Raises: OSError.
        """
        if not self.number:
            return self.image
        with open(self.image, "rb", buffering=0) as old, open(target, "wb", buffering=0) as new:
            os.truncate(new.fileno(), self.size)
            for place, size in _pieces(old.fileno(), self, PIECE):
                _copy(old.fileno(), place, new.fileno(), place - self.begin, size)
                with suppress(subprocesses.ProgramError):  # a file system without holes has to have the room
                    where = ("--offset", str(place), "--length", str(size))
                    bench.run(["fallocate", "--punch-hole", *where, self.image])
        return target


def stretches(bench: Bench, image: str) -> list[Stretch]:
    """Return what is in an image. Raises: ProgramError, OSError."""
    size = os.path.getsize(image)
    found = _probed(bench, image, 0, size)
    if found.get("TYPE") or not found.get("PTTYPE"):
        return [Stretch(image, found.get("TYPE", ""), 0, size)]
    rows = bench.run(["partx", "--bytes", "--raw", "--noheadings", "--output", "NR,START,SIZE,TYPE", image])
    return list(_partitions(bench, image, size, rows))


def _partitions(bench: Bench, image: str, whole: int, rows: str) -> Iterator[Stretch]:
    for row in rows.splitlines()[:MOST]:
        match = re.fullmatch(r"(\d+) (\d+) (\d+)(?: (\S+))?", row.strip())
        if match and match[4] not in EXTENDED:
            begin = int(match[2]) * SECTOR
            size = min(int(match[3]), max(0, whole - begin))
            yield Stretch(image, _probed(bench, image, begin, size).get("TYPE", ""), begin, size, int(match[1]))


def _probed(bench: Bench, image: str, begin: int, size: int) -> Mapping[str, str]:
    """Return what blkid(8) says of a stretch. Raises: ProgramError."""
    if not size:
        return {}
    place = ["--offset", str(begin), "--size", str(size)]
    try:
        said = bench.run(["blkid", "--probe", "--output", "export", *place, image])
    except subprocesses.ProgramError as error:
        if error.returncode == NOTHING:
            return {}
        raise
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def _copies(fd: int, stretch: Stretch) -> Iterator[tuple[str, int]]:
    """Yield the copies of superblocks that are where they belong: what they are of, and where."""

    def has(begin: int, *facts: tuple[int, bytes]) -> bool:
        inside = begin + LOOK < stretch.size
        return inside and all(os.pread(fd, len(data), stretch.begin + begin + at) == data for at, data in facts)

    yield from (("an ext2, ext3 or ext4", begin) for begin in EXT_COPIES if has(begin, EXT_MAGIC, EXT_GROUP))
    if has(BTRFS_COPY, BTRFS_MAGIC):
        yield "a btrfs", BTRFS_COPY
    for place, size in _pieces(fd, stretch):
        data = os.pread(fd, size, place)
        at = data.find(XFS_MAGIC)
        while at >= 0:
            begin, head = place + at - stretch.begin, data[at : at + XFS_GROUP + 4].ljust(XFS_GROUP + 4, b"\0")
            (block,), (group,) = struct.unpack_from(">I", head, XFS_BLOCK), struct.unpack_from(">I", head, XFS_GROUP)
            if begin and begin == block * group:
                yield "an xfs", begin
            at = data.find(XFS_MAGIC, at + 1)


def _pieces(fd: int, stretch: Stretch, most: int = LOOK) -> Iterator[tuple[int, int]]:
    """Yield where a stretch has data, and how many bytes, in pieces."""
    place, end = stretch.begin, stretch.begin + stretch.size
    while place < end:
        try:
            place = os.lseek(fd, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole
                return
            raise
        hole = min(end, os.lseek(fd, place, os.SEEK_HOLE))
        while place < hole:
            size = min(most, hole - place)
            yield place, size
            place += size


def _copy(old: int, place: int, new: int, target: int, size: int) -> None:
    while size:
        data = os.pread(old, min(size, LOOK), place)
        if not data:
            return
        place, size = place + len(data), size - len(data)
        if any(data):
            os.pwrite(new, data, target)  # to a file: all of it, or an error
        target += len(data)
