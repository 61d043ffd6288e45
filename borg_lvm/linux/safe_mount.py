"""Mounting and unmounting below directories of other users, by descriptors that `safe_open` has opened.

A mount goes through the descriptor (`/proc/self/fd/N`) of what was seen before, so no name is looked up twice.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from borg_lvm.linux import syscalls
from borg_lvm.linux.safe_open import (
    DIRECTORY,
    UNSEEN,
    Identity,
    changed,
    explained,
    identity,
    magic,
    mount_id,
    opened,
    path,
    refuse_another,
)


def bind(source: int, target: int, flags: int) -> None:
    """Bind what one descriptor stands for on what the other does. Raises: OSError."""
    syscalls.mount(magic(source), magic(target), None, syscalls.MS_BIND | flags)


def lay(source: int, directory: int, name: str, flags: int, known: Identity | None = None) -> int:
    """Bind `source` on an entry of a directory, and return a descriptor of what is seen there then.

    `known` is what the entry must have been. Raises: OSError; SnapshotError when the entry is not that, or shows
    something else in the end.
    """
    with path(name, directory) as place:
        if known:
            refuse_another(place, known, name)
        before = mount_id(place)
        bind(source, place, flags)
    top = opened(name, directory)
    if identity(top) == identity(source) and mount_id(top) != before:
        return top
    os.close(top)
    raise changed(name, "it does not show what was mounted on it")


def bind_path(source: str, target: str) -> None:
    """Bind one path on another, through no link. Raises: OSError, SnapshotError."""
    directory, name = os.path.split(target)
    with path(source) as wanted, path(directory, flags=DIRECTORY) as above:
        os.close(lay(wanted, above, name, 0))


def unmount(name: str, flags: int, devices: frozenset[int] | None = None) -> None:
    """Unmount what is at a path, through no link; only if it shows one of these devices, if any are given.

    For a process that does nothing else: its working directory is the root directory in the end. Raises: OSError.
    """
    directory, last = os.path.split(name)
    with path(directory, flags=DIRECTORY) as above:
        if devices is not None:
            with path(last, above) as shown:
                if identity(shown).device not in devices:
                    return
        os.fchdir(above)
    try:
        syscalls.umount(last or ".", flags)
    finally:
        os.chdir("/")


def remount(name: str, mount: int, flags: int) -> None:
    """Change the flags of a mount, if it is still this one that is at the path. Raises: OSError, SnapshotError."""
    with explained(name), path(name) as fd:
        if mount_id(fd) != mount:
            raise changed(name, "something else is mounted there")
        syscalls.mount(None, magic(fd), None, syscalls.MS_REMOUNT | syscalls.MS_BIND | flags)


def mount_point(directory: int, name: str, like: int) -> None:
    """Make an empty entry to mount `like` on, if there is none: a directory or a file. Raises: OSError."""
    with suppress(FileExistsError):
        if _is_directory(like):
            os.mkdir(name, 0o700, dir_fd=directory)
        else:
            new = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, new, 0o600, dir_fd=directory))


def _is_directory(fd: int) -> bool:
    try:
        return stat.S_ISDIR(os.fstat(fd).st_mode)
    except OSError as error:
        if error.errno not in UNSEEN:
            raise
        return True
