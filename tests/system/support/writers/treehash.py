"""A judge of trees: everything about each file that a faithful copy has to keep, in one comparable value."""

from __future__ import annotations

import array
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
IMMUTABLE, APPEND, NODUMP = 0x10, 0x20, 0x40
WORTH_A_HOLE = 1 << 20  # bytes from which on a file that takes little room counts as sparse

Tree = dict[bytes, dict[str, object]]


def tree(top: str | os.PathLike[str], *, leave_out: frozenset[str] = frozenset()) -> Tree:
    """Return what is known of everything below a directory, and of itself, by paths relative to it (`b"."` is itself).

    `leave_out` names attributes that a backup program does not keep.
    """
    base = os.fsencode(os.fspath(top))
    found: Tree = {}
    links: dict[tuple[int, int], bytes] = {}
    for path in _walk(base):
        name = os.path.relpath(path, base)
        found[name] = {key: value for key, value in _look(path, name, links).items() if key not in leave_out}
    return found


def digest(one: Tree) -> str:
    """Return one hash of a whole tree."""
    lines = sorted((name, sorted(seen.items())) for name, seen in one.items())
    return hashlib.sha256(repr(lines).encode()).hexdigest()


def differences(one: Tree, other: Tree) -> list[str]:
    """Say what is not the same in two trees; empty when all is."""
    said = [f"only in the first: {name!r}" for name in sorted(one.keys() - other.keys())]
    said += [f"only in the second: {name!r}" for name in sorted(other.keys() - one.keys())]
    for name in sorted(one.keys() & other.keys()):
        here, there = one[name], other[name]
        for key in sorted(here.keys() | there.keys()):
            if here.get(key) != there.get(key):
                said.append(f"{name!r}: {key}: {here.get(key)!r} / {there.get(key)!r}")
    return said


def _walk(top: bytes) -> Iterator[bytes]:
    """Yield a directory and everything below it, in the order of the names."""
    yield top
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        else:
            yield entry.path


def _look(path: bytes, name: bytes, links: dict[tuple[int, int], bytes]) -> dict[str, object]:
    info = os.lstat(path)
    kind = stat.S_IFMT(info.st_mode)
    seen: dict[str, object] = {
        "type": kind,
        "mode": stat.S_IMODE(info.st_mode),
        "owner": (info.st_uid, info.st_gid),
        "mtime": info.st_mtime_ns,
        "xattrs": tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in _xattrs(path)),
    }
    if kind == stat.S_IFLNK:
        seen["target"] = os.readlink(path)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        seen["device"] = (os.major(info.st_rdev), os.minor(info.st_rdev))
    if kind != stat.S_IFDIR and info.st_nlink > 1:
        # Hard links have no first one: the one whose name comes first in the order stands for all of them.
        seen["same as"] = links.setdefault((info.st_dev, info.st_ino), name)
    if kind == stat.S_IFREG:
        seen["size"] = info.st_size
        seen["content"] = _content(path)
        seen["sparse"] = info.st_size >= WORTH_A_HOLE and info.st_blocks * 512 < info.st_size // 2
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        seen["flags"] = flags(path) & (IMMUTABLE | APPEND | NODUMP)
    return seen


def _xattrs(path: bytes) -> list[str]:
    """Return the names of the extended attributes: the user's, access lists, capabilities and all others."""
    return sorted(os.listxattr(path, follow_symlinks=False))


def _content(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flags(path: bytes) -> int:
    """Return the flags that chattr(1) sets."""
    value = array.array("l", [0])
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.ioctl(fd, FS_IOC_GETFLAGS, value)
    finally:
        os.close(fd)
    return value[0]


def set_flags(path: bytes, value: int) -> None:
    """Set the flags that chattr(1) sets, and leave those that are not ours to judge."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    with suppress(OSError):
        others = flags(path) & ~(IMMUTABLE | APPEND | NODUMP)
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, array.array("l", [others | value]))
    os.close(fd)
