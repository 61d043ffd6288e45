"""What the kernel says of a mounted btrfs: the device that it lies on, and what would hold up a freeze.

Files on a btrfs have an anonymous device number (`st_dev`), another one in each subvolume, and the mount table has one
more. None of them names the block device, and none can be predicted. statfs(2) names the file system: by its id and,
mixed into that, the subvolume; sysfs has the block devices of each id.
Source: the kernel's btrfs_statfs in fs/btrfs/super.c; fs/btrfs/sysfs.c; include/uapi/linux/btrfs.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from borg_lvm.records import dataclass

SYSFS = "/sys/fs/btrfs"
_LOW = 0xFFFFFFFF
_SCRUB_PROGRESS, _BALANCE_PROGRESS, _FS_INFO = 0xC400941D, 0x84009422, 0x8400941F
_TREE_SEARCH, _INO_LOOKUP = 0xD0009411, 0xD0009412
_ROOM, _PAGE, _HEAD, _KEY = 1024, 4096, 32, 104
TOP_LEVEL, SUBVOLUME_ROOT = 5, 256
"""The id of the subvolume in which all others lie, and the inode that the root of each has."""
_ROOT_TREE, _INODE_REF, _ROOT_BACKREF = 1, 12, 144
_LAST = (1 << 64) - 1
_LONGEST = 4096
"""Letters of a path: PATH_MAX of linux/limits.h, in bytes, is what can be opened."""
_CUT, _TOO_LONG = "/./…", "/" * _LONGEST
"""No directory is called so."""
_RUNNING = 0x1
_IDLE = ("none", "balance paused", "")
_APART: dict[int, str] = {}


@dataclass(frozen=True)
class SubvolumeId:
    """Where something is on a btrfs: the number (`st_rdev`) of its block device, and the id of the subvolume."""

    device: int
    subvolume: int


@dataclass(frozen=True)
class Mounted:
    """A btrfs that is mounted somewhere: its id, its block devices (`major:minor`), what the kernel changes of them.

    `operation` is a device that is added, removed or replaced, a balance, a resize, or `none`; empty if nobody knows.
    """

    id: str
    devices: tuple[str, ...]
    operation: str = ""


def place(what: str | int) -> SubvolumeId | None:
    """Return where a path or a descriptor is on a btrfs, by the first of its devices; None if it is on none.

    Only for what has an anonymous device number (major 0).
    """
    known = {_mark(name): name for name in _ids()}
    if not known:
        return None
    try:
        mark = os.statvfs(what).f_fsid
    except OSError:
        return None
    for (low, high), name in known.items():
        if mark & _LOW == low:  # the other half has the subvolume's id
            devices = _devices(name)
            return SubvolumeId(_number(devices[0]), (mark >> 32) ^ high) if devices else None
    return None


def mounted() -> list[Mounted]:
    """Return every btrfs that is mounted somewhere."""
    return [Mounted(name, _devices(name), _text(f"{SYSFS}/{name}/exclusive_operation")) for name in _ids()]


def held_up(fd: int) -> str:
    """Return what would make a freeze of the btrfs of this descriptor wait, and all writers with it; else nothing.

    The kernel holds write access for all of a scrub, a balance or a change of devices, which takes hours, and a freeze
    that waits cannot be called off.
    """
    on = place(fd)
    number = f"{os.major(on.device)}:{os.minor(on.device)}" if on else ""
    operation = next((file_system.operation for file_system in mounted() if number in file_system.devices), "")
    return prepared(fd)() or (f"`{operation}`" if operation not in _IDLE else "")


def prepared(fd: int) -> Callable[[], str]:
    """Return what asks by ioctl alone, on an open descriptor, whether a scrub or a balance is under way."""
    buffer = bytearray(_ROOM)
    devices = [number for number in range(1, _highest_device(fd) + 1) if _scrubbed(fd, number, buffer) is not None]

    def ask() -> str:
        if any(_scrubbed(fd, number, buffer) for number in devices):
            return "a scrub"
        return "a balance" if _balanced(fd, buffer) else ""

    return ask


def file_system_id(fd: int) -> str:
    """Return the id of the btrfs that a descriptor lies on. Raises: OSError."""
    buffer = bytearray(_ROOM)
    fcntl.ioctl(fd, _FS_INFO, buffer, True)
    text = bytes(buffer[16:32]).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def subvolumes(fd: int) -> dict[int, str]:
    """Return the path of each subvolume from the top level (`/@home`), by its id. Raises: OSError.

    One that is being deleted, or that another one which is being deleted holds, has none. A path that is longer than
    any that can be opened is cut: every user may have thousands of subvolumes in one another.
    """
    known: dict[tuple[int, int], str | None] = {}
    parents = {
        number: (parent, _directory(fd, parent, inode, known), name) for number, parent, inode, name in _links(fd)
    }
    paths = {TOP_LEVEL: "/"}
    for number in parents:
        trail, here = [], number
        while here in parents and here not in paths:
            trail.append(here)
            here = parents[here][0]
        for inner in reversed(trail):
            parent, directory, name = parents[inner]
            if parent not in paths or directory is None:
                break
            paths[inner] = _joined(paths[parent], directory, name)
    return paths


def _joined(outer: str, directory: str, name: str) -> str:
    """Return the path of a subvolume; one that is too long is cut, and that of all below it is the same."""
    if outer.endswith(_CUT):
        return outer
    path = f"{outer.rstrip('/')}/{directory}{name}"
    return path if len(path) <= _LONGEST else path[:_LONGEST].rpartition("/")[0].rstrip("/") + _CUT


def _links(fd: int) -> Iterator[tuple[int, int, int, str]]:
    """Yield each subvolume: its id, that of its parent, the inode of the directory there, and its name in that."""
    number, kind, parent = SUBVOLUME_ROOT, 0, 0
    while True:
        buffer = bytearray(_PAGE)
        ids = (_ROOT_TREE, number, _LAST - SUBVOLUME_ROOT, parent, _LAST, 0, _LAST)
        struct.pack_into("7Q4I", buffer, 0, *ids, kind, _ROOT_BACKREF, _PAGE, 0)
        fcntl.ioctl(fd, _TREE_SEARCH, buffer, True)
        (count,) = struct.unpack_from("I", buffer, 64)
        if not count:
            return
        place = _KEY
        for _ in range(count):
            _, number, parent, kind, length = struct.unpack_from("QQQII", buffer, place)
            place += _HEAD
            if kind == _ROOT_BACKREF:
                inode, _, size = struct.unpack_from("<QQH", buffer, place)
                yield number, parent, inode, os.fsdecode(bytes(buffer[place + 18 : place + 18 + size]))
            place += length
        parent += 1


def _directory(fd: int, subvolume: int, inode: int, known: dict[tuple[int, int], str | None]) -> str | None:
    """Return the path of a directory in a subvolume, a slash at its end; empty for its root, None if it is gone.

    Where it is too long for the kernel, that of one above it, made longer than any path. `known` is what was returned.
    """
    way = [inode]
    while (subvolume, way[-1]) not in known:
        try:
            known[subvolume, way[-1]] = _path_of(fd, subvolume, way[-1])
        except OSError as error:
            above = _above(fd, subvolume, way[-1]) if error.errno == errno.ENAMETOOLONG else None
            if above is None:
                known[subvolume, way[-1]] = None
            else:
                way.append(above)
    found = known[subvolume, way.pop()]
    if way and found is not None and not found.endswith(_TOO_LONG):
        found += _TOO_LONG
    known.update(((subvolume, lower), found) for lower in way)
    return found


def _path_of(fd: int, subvolume: int, inode: int) -> str:
    buffer = bytearray(_PAGE)
    struct.pack_into("QQ", buffer, 0, subvolume, inode)
    fcntl.ioctl(fd, _INO_LOOKUP, buffer, True)
    return os.fsdecode(bytes(buffer[16:]).partition(b"\0")[0])


def _above(fd: int, subvolume: int, inode: int) -> int | None:
    """Return the inode of the directory that a directory is in; None if it is gone. Raises: OSError."""
    buffer = bytearray(_PAGE)
    ids = (subvolume, inode, inode, 0, _LAST, 0, _LAST)
    struct.pack_into("7Q4I", buffer, 0, *ids, _INODE_REF, _INODE_REF, 1, 0)
    fcntl.ioctl(fd, _TREE_SEARCH, buffer, True)
    return int(struct.unpack_from("Q", buffer, _KEY + 16)[0]) if struct.unpack_from("I", buffer, 64)[0] else None


def set_apart(number: int, path: str) -> int:
    """Have a subvolume (`st_dev`), which is a snapshot of ours at this path, count as a file system of its own.

    It lies on the devices of the live one, which nothing that is done to a snapshot may meet.
    """
    _APART[number] = path
    return number


def apart(number: int) -> str:
    """Return where a subvolume (`st_dev`) that counts as a file system of its own lies; empty if it is none."""
    return _APART.get(number, "")


def _highest_device(fd: int) -> int:
    buffer = bytearray(_ROOM)
    try:
        fcntl.ioctl(fd, _FS_INFO, buffer, True)
    except OSError:  # no btrfs
        return 0
    return int(struct.unpack_from("Q", buffer)[0])


def _scrubbed(fd: int, device: int, buffer: bytearray) -> bool | None:
    """Return whether a device is scrubbed; None if there is none of that number."""
    struct.pack_into("Q", buffer, 0, device)
    try:
        fcntl.ioctl(fd, _SCRUB_PROGRESS, buffer, True)
    except OSError as error:
        return None if error.errno == errno.ENODEV else False
    return True


def _balanced(fd: int, buffer: bytearray) -> bool:
    try:
        fcntl.ioctl(fd, _BALANCE_PROGRESS, buffer, True)
    except OSError:  # ENOTCONN: there is none
        return False
    return bool(struct.unpack_from("Q", buffer, 8)[0] & _RUNNING)  # else it is paused


def _ids() -> list[str]:
    names: Sequence[str] = ()
    with suppress(OSError):
        names = os.listdir(SYSFS)
    return [name for name in names if len(name) == 36]


def _mark(name: str) -> tuple[int, int]:
    """Return both halves of what statfs(2) makes of a file system's id."""
    words = struct.unpack(">4I", bytes.fromhex(name.replace("-", "")))
    return words[0] ^ words[2], words[1] ^ words[3]


def _devices(name: str) -> tuple[str, ...]:
    directory, numbers = f"{SYSFS}/{name}/devices", []
    with suppress(OSError):
        numbers = [_text(f"{directory}/{device}/dev") for device in sorted(os.listdir(directory))]
    return tuple(filter(None, numbers))


def is_seeded(name: str) -> bool:
    """Return whether one of the devices of a btrfs, by its id, is a seed device: it is there, and only read.

    Such a one has a file system of its own, with another id.
    """
    directory, devices = f"{SYSFS}/{name}/devinfo", list[str]()
    with suppress(OSError):
        devices = os.listdir(directory)
    return any(
        (_text(f"{directory}/{one}/writeable"), _text(f"{directory}/{one}/missing")) == ("0", "0") for one in devices
    )


def _number(text: str) -> int:
    major, _, minor = text.partition(":")
    return os.makedev(int(major), int(minor))


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
