"""The subvolumes of a btrfs that is mounted somewhere, and where snapshots of them are to lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from borg_lvm.linux import btrfs, safe_open
from borg_lvm.machine import block_devices
from borg_lvm.machine.lvm import ATTRIBUTES, TAG, Volume
from borg_lvm.machine.mounts import BTRFS, Mount, plain, relative
from borg_lvm.records import dataclass, field

DIRECTORY = ".borg-lvm"
"""Where snapshots lie, in the top level of their file system: for root alone."""
KEPT = ".keep"
"""What the names of those end with that are to be kept."""
SWAPS = "/proc/swaps"
CANDIDATE = ".candidate"
"""What follows its name, before a number, in that of a directory for what may become it (`one_transaction`)."""
GATHERING = (6, 12)
"""The first Linux on which `Tree.gathers` was tried and found."""
_ENDING = f"{re.escape(KEPT)}|{re.escape(CANDIDATE)}[0-9]+"
_NAME = re.compile(rf"{TAG}-([0-9]{{8}}T[0-9]{{6}}-[0-9a-f]{{6}})-[0-9]+({_ENDING})?")
_PLAIN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Subvolume(Volume):
    """A subvolume of a btrfs, in the place of a logical volume: it has no group, and all of a group's is empty.

    `size` and `vg_free` are those of its file system, of which `file_system` is the id and `device` the name of a
    device; `number` is the subvolume's id, and `path` where it is from the top level. `gathers` is as of a `Tree`.
    """

    file_system: str = ""
    device: str = ""
    number: int = 0
    path: str = "/"
    gathers: bool = True

    kind = "subvolume"

    @property
    def full_name(self) -> str:
        """The device and the subvolume, as findmnt(8) has them, but no name that would have to be quoted."""
        what = self.path if _PLAIN.fullmatch(self.path) else f"subvolid={self.number}"
        return f"{self.device}[{what}]"

    @property
    def dm_uuid(self) -> str:
        """Nothing of device-mapper's has this id."""
        return f"btrfs-{self.uuid}"

    @property
    def together(self) -> str:
        """What all have that are snapshotted in one transaction: the btrfs, if the kernel gathers its snapshots."""
        return self.file_system if self.gathers else self.uuid

    @property
    def store(self) -> str:
        """Where a snapshot has its space."""
        return "the btrfs"

    def snapshot(self, name: str) -> str:
        """Return what a snapshot of this is called: where it lies, as findmnt(8) has it."""
        return f"{self.device}[/{DIRECTORY}/{name}]"

    def inside(self, path: str) -> str:
        """Return where a path of the file system, from its top level, is in the subvolume."""
        return f"/{relative(path, self.path)}"


@dataclass(frozen=True)
class Tree:
    """A btrfs that is mounted: its devices (`major:minor`) and the name of one, its bytes, its subvolumes by their ids.

    `swapped` are those in which a swap file is in use. `gathers`: whether snapshots that are asked for while a
    transaction is committed are all of the next one. Linux 6.12 and 6.18 did so in each of 400 tries, 6.1 in none.
    `is_seeded`: as of `btrfs.is_seeded`.
    """

    id: str
    devices: tuple[str, ...]
    device: str
    size: int
    free: int
    subvolumes: Mapping[int, str]
    swapped: frozenset[int] = field(default=frozenset())
    gathers: bool = True
    is_seeded: bool = False

    def holding(self, path: str) -> Subvolume:
        """Return the subvolume that a path, from the top level, lies in."""
        number, top = max(
            ((number, top) for number, top in self.subvolumes.items() if is_in(path, top)),
            key=lambda one: len(one[1]),
        )
        return Subvolume(
            vg="",
            vg_uuid="",
            vg_free=self.free,
            extent=0,
            name=top,
            uuid=f"{self.id}-{number}",
            size=self.size,
            attr="-" * ATTRIBUTES,
            layout=frozenset([BTRFS]),
            role=frozenset(),
            active=True,
            suspended=False,
            tags=(),
            pool="",
            origin="",
            data_percent=None,
            metadata_percent=None,
            minor=-1,
            file_system=self.id,
            device=self.device,
            number=number,
            path=top,
            gathers=self.gathers,
        )

    def below(self, path: str) -> list[str]:
        """Return the subvolumes below a path, without our snapshots."""
        lower = (top for top in self.subvolumes.values() if top != path and is_in(top, path))
        return sorted(top for top in lower if not is_in(top, f"/{DIRECTORY}"))


def is_in(path: str, outer: str) -> bool:
    """Whether a path is another one, or lies below it."""
    return path == outer or path.startswith(f"{outer.rstrip('/')}/")


def run_of(name: str) -> tuple[str, bool] | None:
    """Return the run by which a snapshot of this name was made, and whether it is to be kept; None if none of ours."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2] == KEPT) if match else None


def is_candidate(name: str) -> bool:
    """Whether a name in the directory of the snapshots is that of a directory for a candidate."""
    return bool(run_of(name)) and CANDIDATE in name


def look(mounts: Iterable[Mount]) -> dict[str, Tree]:
    """Return each btrfs of which one of these is a mount, by the device (`major:minor`) that the mount table has."""
    known = {number: one for one in btrfs.mounted() for number in one.devices[:1]}
    trees: dict[str, Tree] = {}
    for mount in mounts:
        if mount.fstype == BTRFS and mount.device in known and mount.device not in trees:
            with suppress(OSError), safe_open.path(mount.path) as point:
                fd = safe_open.reopened(point, os.O_RDONLY)
                try:
                    trees[mount.device] = _tree(fd, known[mount.device])
                finally:
                    os.close(fd)
    return trees


def _tree(fd: int, known: btrfs.Mounted) -> Tree:
    """Look at the btrfs of a descriptor. Raises: OSError."""
    space = os.fstatvfs(fd)
    device = os.makedev(*(int(part) for part in known.devices[0].split(":")))
    return Tree(
        known.id,
        known.devices,
        device_name(known.devices[0]),
        space.f_blocks * space.f_frsize,
        space.f_bavail * space.f_frsize,
        btrfs.subvolumes(fd),
        frozenset(place.subvolume for place in _swap_files() if place.device == device),
        gathers(os.uname().release),
        btrfs.is_seeded(known.id),
    )


def gathers(release: str) -> bool:
    """Whether a kernel of this release gathers snapshots in one transaction; see `Tree`."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and tuple(map(int, numbers.groups())) >= GATHERING


def device_name(number: str) -> str:
    """Return the name of a device (`major:minor`) below /dev."""
    device = block_devices.gather([number]).get(number)
    if device is None:
        return number
    return f"/dev/mapper/{device.dm_name}" if device.dm_name else f"/dev/{device.name}"


def _swap_files() -> Iterator[btrfs.SubvolumeId]:
    """Yield where on a btrfs a swap file is in use. Source: proc(5), /proc/swaps."""
    with suppress(OSError), open(SWAPS, encoding="utf-8", errors="surrogateescape") as table:
        for line in table.read().splitlines()[1:]:
            name, kind, *_ = line.split()
            if kind == "file":
                with suppress(OSError), safe_open.path(plain(name)) as fd:
                    if place := btrfs.place(fd):
                        yield place
