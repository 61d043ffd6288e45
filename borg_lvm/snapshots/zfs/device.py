"""The number (`st_dev`) of a snapshot of ZFS: it has one while it is mounted, so it is mounted, at no path.

A mount that has no path is seen by nobody else, and ends with its descriptor, however we end. All mounts of a snapshot
are one file system, with one number.
"""

from __future__ import annotations

import os

from borg_lvm.linux import syscalls
from borg_lvm.machine.mounts import ZFS

_KEPT: dict[str, int] = {}


def number(name: str) -> int:
    """Return the number that a snapshot (`pool/dataset@name`) has now. Raises: OSError when it cannot be mounted."""
    fd = _KEPT.get(name, -1)
    if fd >= 0:
        return os.fstat(fd).st_dev
    fd = syscalls.detached_mount(ZFS, name, {})
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def kept(name: str) -> int:
    """Return the same, and have the snapshot keep it until it is `forgotten`. Raises: OSError."""
    if name not in _KEPT:
        _KEPT[name] = syscalls.detached_mount(ZFS, name, {})
    return number(name)


def forgotten(name: str) -> None:
    """Let a snapshot have no number of ours any more: else it could not be destroyed."""
    if name in _KEPT:
        os.close(_KEPT.pop(name))
