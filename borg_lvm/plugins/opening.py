"""Opens what is somebody else's: once, through no link, and for reading nothing but a plain file.

A pipe would wait, a device would never end or begin to do something, and a link leads where its owner likes. So it is
examined without being opened, and what has been examined is what is opened: the name is used once.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from borg_lvm.linux import safe_open

HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
READING = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def plain(path: str, owner: int | None = None, *, links: bool = False) -> IO[bytes]:
    """Open a plain file for reading; `owner` is the user id that it must belong to.

    The last component may be no link, without `links`; the owner of a directory before it can lead to another file of
    the same owner. Raises: OSError, with a reason in words when it is no plain file or another user's.
    """
    handle = os.open(path, HANDLE & ~os.O_NOFOLLOW if links else HANDLE)
    try:
        return _reading(handle, path, owner)
    finally:
        os.close(handle)


def _reading(handle: int, path: str, owner: int | None = None) -> IO[bytes]:
    info = os.fstat(handle)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file", path)
    if owner is not None and info.st_uid != owner:
        raise PermissionError(errno.EPERM, f"it belongs to user {info.st_uid}, not {owner}", path)
    return os.fdopen(os.open(safe_open.magic(handle), READING), "rb")


def magic(file: IO[bytes]) -> str:
    """Return the path by which a program that we start opens this very file, whatever its name is then."""
    return safe_open.magic_for_others(file.fileno())


class Below:
    """What lies below a directory, by descriptor: no link in it leads elsewhere, also when it is changed meanwhile."""

    def __init__(self, directory: str) -> None:
        self._root = os.open(directory, safe_open.DIRECTORY | os.O_CLOEXEC)
        self._known = ("", os.dup(self._root))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._root)
        os.close(self._known[1])

    @contextmanager
    def opened(self, name: str) -> Iterator[int | None]:
        """Have what is at a name below it open (O_PATH), which may be a link itself; None if nothing is there.

        Raises: OSError.
        """
        try:
            directory, last = os.path.split(name)
            fd = os.open(last or ".", HANDLE, dir_fd=self._directory(directory))
        except OSError as error:
            if error.errno not in _GONE:
                raise
            yield None
            return
        try:
            yield fd
        finally:
            os.close(fd)

    def names(self) -> Iterator[str]:
        """Yield the names of all that lies below it, its own first, which is empty. Raises: OSError."""
        waiting = [""]
        yield ""
        while waiting:
            directory = waiting.pop()
            with self.opened(directory) as handle:
                if handle is None or not stat.S_ISDIR(os.fstat(handle).st_mode):
                    continue  # it was exchanged meanwhile
                fd = safe_open.reopened(handle, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with os.scandir(fd) as entries:
                    inside = [
                        (f"{directory}/{entry.name}".lstrip("/"), entry.is_dir(follow_symlinks=False))
                        for entry in entries
                    ]
            finally:
                os.close(fd)
            waiting += [name for name, is_directory in inside if is_directory]
            yield from (name for name, _ in inside)

    def _directory(self, name: str) -> int:
        """Return a descriptor of a directory, which stays open until the next one is wanted: most come in a row."""
        if self._known[0] != name:
            fd = safe_open.opened(name, self._root, safe_open.DIRECTORY)
            os.close(self._known[1])
            self._known = (name, fd)
        return self._known[1]

    def plain(self, name: str) -> IO[bytes] | None:
        """Open a plain file below it for reading; None if there is none. Raises: OSError."""
        with self.opened(name) as handle:
            if handle is None or not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            return _reading(handle, name)


def target(handle: int) -> str:
    """Return where a link leads that a handle stands for. Raises: OSError."""
    return os.readlink("", dir_fd=handle)


def attributes(handle: int) -> dict[str, bytes]:
    """Return the extended attributes of what a handle stands for, of a link too; none where there can be none.

    The magic link leads to the very inode, a symbolic link is not followed further (path_resolution(7)).
    Raises: OSError.
    """
    place = safe_open.magic(handle)
    try:
        return {name: os.getxattr(place, name) for name in os.listxattr(place)}
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        return {}
