"""Our own directories on disk: made for root alone, and believed only while nobody else can change them.

What lies there is carried out as root: a ledger names commands. So every component that is ours is opened without
following links and examined whenever it is used, and files are opened below the descriptor of their directory.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from borg_lvm.errors import ForeignStateError

STATE = "/run/borg-lvm"
"""Where all is that belongs to runs which go on: ledgers, locks, views."""
ABOVE = ("/run", "/var/lib")
"""Where our directories lie. These belong to the system, which may have put links there."""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def directory(path: str, *, make: bool = False) -> Iterator[int]:
    """Give a descriptor of one of our directories; `make` those that are missing, whatever the umask, with mode 0700.

    Raises:
        ForeignStateError: a component of ours is a link, is not ours, or others can write it.
        OSError: it is missing, or cannot be made.
    """
    here = max((above for above in ABOVE if path.startswith(f"{above}/")), key=len, default="/")
    fd = os.open(here, _OPEN)
    try:
        _refuse_foreign(fd, here)
        for name in os.path.relpath(path, here).split("/"):
            here = os.path.join(here, name)
            inner = _inner(fd, name, here, make=make)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _inner(fd: int, name: str, path: str, *, make: bool) -> int:
    is_new = False
    if make:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=fd)
            is_new = True
    inner = _opened(name, _OPEN, path, fd)
    try:
        if is_new:
            os.fchmod(inner, 0o700)  # a umask may have taken the owner's bits as well
        _refuse_foreign(inner, path)
    except BaseException:
        os.close(inner)
        raise
    return inner


def opened(path: str, flags: int) -> int:
    """Open a file in one of our directories, which must be there; made with mode 0600. Returns its descriptor.

    Raises: as `directory`; ForeignStateError also for what is no regular file.
    """
    with directory(os.path.dirname(path)) as fd:
        file = _opened(os.path.basename(path), flags | os.O_CLOEXEC | os.O_NONBLOCK, path, fd)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ForeignStateError(path, "is not a regular file")
        _refuse_foreign(file, path)
    except BaseException:
        os.close(file)
        raise
    return file


def names(path: str) -> list[str]:
    """Return what lies in one of our directories. Raises: as `directory`, also for an entry that is not ours."""
    with directory(path) as fd:
        names = os.listdir(fd)
        for name in names:
            with suppress(FileNotFoundError):
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                _refuse(info, os.path.join(path, name))
    return names


def written(path: str, data: bytes) -> None:
    """Write a file in one of our directories, in the place of an old one, to the disk. Raises: as `opened`."""
    new = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.new")
    with directory(os.path.dirname(path)) as fd:
        with suppress(FileNotFoundError):
            os.unlink(os.path.basename(new), dir_fd=fd)
        try:
            with open(opened(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(os.path.basename(new), os.path.basename(path), src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(os.path.basename(new), dir_fd=fd)
            raise


def _opened(name: str, flags: int, path: str, fd: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=fd)
    except OSError as error:
        info = _info(name, fd)
        if info and stat.S_ISLNK(info.st_mode):
            raise ForeignStateError(path, "is a symbolic link") from error
        raise OSError(error.errno or errno.EIO, os.strerror(error.errno or errno.EIO), path) from error


def _info(name: str, fd: int) -> os.stat_result | None:
    with suppress(OSError):
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    return None


def _refuse_foreign(fd: int, path: str) -> None:
    _refuse(os.fstat(fd), path)


def _refuse(info: os.stat_result, path: str) -> None:
    if stat.S_ISLNK(info.st_mode):
        raise ForeignStateError(path, "is a symbolic link")
    if info.st_uid not in (0, os.geteuid()):
        raise ForeignStateError(path, f"belongs to the user id {info.st_uid}")
    if info.st_mode & _OTHERS:
        who = "everybody" if info.st_mode & stat.S_IWOTH else "its group"
        raise ForeignStateError(path, f"can be written by {who}")
