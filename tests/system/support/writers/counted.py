"""Four ways to write to a volume, and counts of the requests that they cost while there is a snapshot."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
SECTOR = 512
HOT = 20  # the part of a volume that is hot: a twentieth

Step = tuple[int, int]  # where, and how many bytes


@dataclass(frozen=True)
class Requests:
    """Requests and bytes, as the kernel counts those of a device (Documentation/block/stat.rst)."""

    reads: int = 0
    read: int = 0
    writes: int = 0
    written: int = 0

    def __sub__(self, other: Requests) -> Requests:
        return Requests(
            self.reads - other.reads, self.read - other.read, self.writes - other.writes, self.written - other.written
        )

    @property
    def total(self) -> int:
        """All requests."""
        return self.reads + self.writes


@dataclass(frozen=True)
class Cost:
    """What writing has cost: below the origin, where the reads are those of copying, and at the snapshot's space."""

    origin: Requests
    space: Requests

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.origin - other.origin, self.space - other.space)

    @property
    def total(self) -> int:
        """All requests."""
        return self.origin.total + self.space.total


def of(name: str) -> Requests:
    """Return what a device has seen (by its name in device-mapper)."""
    base = next(one for one in Path("/sys/block").glob("dm-*") if (one / "dm/name").read_text().strip() == name)
    fields = [int(field) for field in (base / "stat").read_text().split()]
    return Requests(fields[0], fields[2] * SECTOR, fields[4], fields[6] * SECTOR)


def thick(vg: str, origin: str, snapshot: str) -> Cost:
    """Return what the devices below a thick snapshot and its origin have seen."""
    base, copy = (f"{vg}-{name.replace('-', '--')}" for name in (origin, snapshot))
    return Cost(of(f"{base}-real"), of(f"{copy}-cow"))


def thin(vg: str, pool: str) -> Cost:
    """Return what the data of a thin pool has seen, and its metadata in place of a snapshot's space."""
    return Cost(of(f"{vg}-{pool}_tdata"), of(f"{vg}-{pool}_tmeta"))


def sequential(size: int) -> Iterator[Step]:
    """Write three quarters of a volume from its beginning, 1 MiB at a time."""
    return ((at, MIB) for at in range(0, size * 3 // 4, MIB))


def all_over(size: int, seed: int = 1) -> Iterator[Step]:
    """Write 2,000 blocks of 4 KiB, anywhere."""
    draw = random.Random(seed)
    return ((draw.randrange(size // (4 * KIB)) * 4 * KIB, 4 * KIB) for _ in range(2000))


def hot(size: int) -> Iterator[Step]:
    """Write 4,000 pages of 8 KiB, anywhere in one twentieth."""
    draw = random.Random(2)
    pages = size // HOT // (8 * KIB)
    return ((size // 2 + draw.randrange(pages) * 8 * KIB, 8 * KIB) for _ in range(4000))


def log(size: int) -> Iterator[Step]:
    """Append 2,000 blocks of 4 KiB, one after the other."""
    return ((size // 4 + number * 4 * KIB, 4 * KIB) for number in range(2000))


WRITERS: Mapping[str, Callable[[int], Iterator[Step]]] = {
    "sequential": sequential,
    "all over": all_over,
    "hot": hot,
    "log": log,
    "large log": lambda size: ((size // 4 + number * 4 * KIB, 4 * KIB) for number in range(5000)),
    "large all over": lambda size: ((at, 4 * KIB) for at, _ in (*all_over(size, 3), *all_over(size, 4))),
}
NAMED = tuple(WRITERS)[:4]
"""The four."""


def write(device: str, size: int, writer: str) -> None:
    """Write to a device of so many bytes, past the page cache, one after the other; a log is synced each time."""
    fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, MIB) as page:
            page.write(os.urandom(4 * KIB) * (MIB // (4 * KIB)))
            with memoryview(page) as view:
                for at, count in WRITERS[writer](size):
                    with view[:count] as part:
                        assert os.pwrite(fd, part, at) == count
                    if writer == "log":
                        os.fdatasync(fd)
    finally:
        os.close(fd)
