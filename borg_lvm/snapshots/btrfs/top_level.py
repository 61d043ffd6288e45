"""The directory of a btrfs in which snapshots lie, reached through a mount at no path.

It lies in the top level (subvolid=5), which need not be mounted anywhere, and is root's alone. A mount that has no path
is seen by nobody else, in no namespace, and ends with its descriptor, however we end. Nothing below the directory is
ever reached by a path: a user who may change names in the top level cannot lead us elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import btrfs, safe_open, syscalls
from borg_lvm.machine.btrfs_subvolumes import DIRECTORY, Subvolume
from borg_lvm.machine.mounts import BTRFS

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS = 0o077
_WRITE = 0o022


@contextmanager
def mounted(device: str, file_system: str) -> Iterator[int]:
    """Have the top level of a btrfs open, by its id and the name of a device, for the length of the block.

    Raises: OSError; SnapshotError when another file system is on the device.
    """
    mount = syscalls.detached_mount(BTRFS, device, {"subvolid": str(btrfs.TOP_LEVEL)})
    try:
        with opened(".", mount) as top:
            if btrfs.file_system_id(top) != file_system:
                raise SnapshotError(f"{device} holds another file system than it did; nothing was done on it")
            yield top
    finally:
        os.close(mount)


@contextmanager
def directory(device: str, file_system: str) -> Iterator[int]:
    """Have the directory of the snapshots open for the length of the block.

    Raises: OSError; FileNotFoundError when there is none; SnapshotError when it is not root's alone.
    """
    with mounted(device, file_system) as top, _of_root(top, device) as fd:
        yield fd


@contextmanager
def opened(name: str, above: int) -> Iterator[int]:
    """Have a directory in another one open for the length of the block; a link is refused. Raises: OSError."""
    fd = os.open(name, _DIRECTORY, dir_fd=above)
    try:
        yield fd
    finally:
        os.close(fd)


def names(device: str, file_system: str) -> list[str]:
    """Return what is in the directory of the snapshots, whosever that is; nothing where there is none.

    Raises: OSError, SnapshotError when the top level cannot be reached.
    """
    with mounted(device, file_system) as top:
        try:
            fd = os.open(DIRECTORY, _DIRECTORY, dir_fd=top)
        except OSError:  # there is none, or a link or a file in its place
            return []
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)


@contextmanager
def made_ready(subvolume: Subvolume) -> Iterator[tuple[int, int]]:
    """Have the directory of the snapshots open, which is made if need be, and a subvolume.

    Raises: OSError; SnapshotError when the directory is not root's alone, or another subvolume is in the place of this.
    """
    with mounted(subvolume.device, subvolume.file_system) as top:
        with suppress(FileExistsError):
            os.mkdir(DIRECTORY, 0o700, dir_fd=top)
        with _of_root(top, subvolume.device) as fd, _source(top, subvolume) as source:
            yield fd, source


@contextmanager
def _of_root(top: int, device: str) -> Iterator[int]:
    with opened(DIRECTORY, top) as fd:
        refuse_others(os.fstat(top), os.fstat(fd), device)
        yield fd


def refuse_others(top: os.stat_result, own: os.stat_result, device: str) -> None:
    """Refuse a directory that somebody else could look into, or move away. Raises: SnapshotError. Pure."""
    if top.st_uid != 0 or (top.st_mode & _WRITE and not top.st_mode & stat.S_ISVTX):
        raise SnapshotError(
            f"{device}: others than root may rename what is in the top level of its btrfs, where snapshots would lie",
            remedy=f"mount -o subvolid=5 {device} /mnt && chown root /mnt && chmod go-w /mnt",
        )
    if own.st_uid != 0 or own.st_mode & _OTHERS or own.st_ino == btrfs.SUBVOLUME_ROOT:
        raise SnapshotError(
            f"{device}: {DIRECTORY} in the top level of its btrfs is not a directory of root's alone (0700)",
            remedy=f"find out who has made it (mount -o subvolid=5 {device} /mnt), and take it away",
        )


@contextmanager
def _source(top: int, subvolume: Subvolume) -> Iterator[int]:
    with safe_open.path(subvolume.path.strip("/"), top) as point:
        fd = safe_open.reopened(point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        place = btrfs.place(fd)
        if place is None or place.subvolume != subvolume.number or os.fstat(fd).st_ino != btrfs.SUBVOLUME_ROOT:
            raise safe_open.changed(subvolume.full_name, "another subvolume has its name now")
        yield fd
    finally:
        os.close(fd)
