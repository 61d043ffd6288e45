"""The frozen view as the comparison sees it: what is at a path, by descriptor, through no symbolic link.

For a process that is in the view. A path is looked up below the mount that covers it, which no other user can change.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from borg_lvm.linux import safe_open
from borg_lvm.plugins.read_back import EntryType, entry_type
from borg_lvm.proof import acl
from borg_lvm.proof.compare import FrozenEntry

ACLS = "system.posix_acl_access", "system.posix_acl_default"
PIECE = 1 << 20
"""Bytes of a file that are read at once."""
_NO_SUCH = (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class FrozenTree:
    """The view: `frozen_paths` are the paths that show snapshots, `devices` their `st_dev`, `live` what is read live.

    `ways` says where sources lead that are given by a name with a symbolic link in it.
    """

    def __init__(
        self, frozen_paths: Sequence[str], devices: Sequence[int], live: Sequence[str], ways: Mapping[str, str]
    ) -> None:
        self._frozen_paths = sorted(frozen_paths, key=len, reverse=True)
        self._devices = frozenset(devices)
        self._live = tuple(live)
        self._ways = sorted(((name, real) for name, real in ways.items() if name != real), reverse=True)
        self._open: dict[str, int] = {}
        self._known: tuple[str, int] | None = None
        self._judged: dict[int, bool] = {}

    def real(self, path: str) -> str:
        """Return the path without the symbolic links that are on the way to its source."""
        for name, real in self._ways:
            if _is_below(path, name):
                return real.rstrip("/") + path[len(name.rstrip("/")) :] or "/"
        return path

    def names(self, path: str) -> tuple[str, ...]:
        """Return the paths by which an archive may have what is at and below a path, that one's own among them."""
        real = self.real(path)
        names = {path: None, real: None}
        for name, place in self._ways:
            if _is_below(real, place):
                names[name.rstrip("/") + real[len(place.rstrip("/")) :] or "/"] = None
            elif _is_below(place, real):
                names[name] = None
        return tuple(names)

    def leads(self, path: str) -> bool:
        """Whether a source was given by this name, and a symbolic link in it leads elsewhere."""
        return any(name.rstrip("/") == path.rstrip("/") for name, _ in self._ways)

    def is_live(self, path: str) -> bool:
        """Whether a path lies in what the command reads live."""
        real = self.real(path)
        frozen_path = len(self._frozen_path(real))
        return any(_is_below(real, live) and len(live) >= frozen_path for live in self._live)

    def _frozen_path(self, real: str) -> str:
        return next((frozen_path for frozen_path in self._frozen_paths if _is_below(real, frozen_path)), "")

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        """Have what is at a path open (O_PATH), which may be a link itself. Raises: OSError."""
        real = self.real(path)
        frozen_path = self._frozen_path(real)
        if real.rstrip("/") == frozen_path.rstrip("/"):  # it may be a file
            fd = safe_open.opened(real, flags=os.O_PATH | os.O_NOFOLLOW)
        else:
            directory, name = os.path.split(real.rstrip("/"))
            fd = os.open(
                name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory(directory or "/", frozen_path)
            )
        try:
            yield fd
        finally:
            os.close(fd)

    def _directory(self, directory: str, frozen_path: str) -> int:
        """Return a descriptor of a directory, which stays open until the next one is wanted: most come in a row."""
        if self._known and self._known[0] == directory:
            return self._known[1]
        base = frozen_path or "/"
        if base not in self._open:
            self._open[base] = safe_open.opened(base, flags=safe_open.DIRECTORY)
        fd = safe_open.opened(directory[len(base.rstrip("/")) :].lstrip("/"), self._open[base], safe_open.DIRECTORY)
        if self._known:
            os.close(self._known[1])
        self._known = (directory, fd)
        return fd

    def look(self, path: str) -> FrozenEntry | None:
        """Return what is at a path; None if nothing is. Raises: NotFrozenError if it is of no snapshot; OSError."""
        try:
            with self._opened(path) as fd:
                info = os.fstat(fd)
                if not self._is_frozen(fd, info):
                    raise NotFrozenError
                return _frozen(fd, info)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise

    def _is_frozen(self, fd: int, info: os.stat_result) -> bool:
        """Whether a descriptor is of a snapshot. Each subvolume of a btrfs has an `st_dev`, which stays."""
        if info.st_dev not in self._judged:
            self._judged[info.st_dev] = safe_open.identity(fd).device in self._devices
        return self._judged[info.st_dev]

    def identity(self, path: str) -> tuple[int, int] | None:
        """Return `st_dev` and inode of what is at a path; None if nothing is. Raises: OSError."""
        try:
            with self._opened(path) as fd:
                info = os.fstat(fd)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise
        return info.st_dev, info.st_ino

    def children(self, directory: str, types: Collection[EntryType]) -> Iterator[str]:
        """Yield the paths in a directory that are of these types, neither files nor directories. Raises: OSError.

        None, if it is of no snapshot, or is not there: a program may name it otherwise.
        """
        try:
            with self._opened(directory) as seen:
                info = os.fstat(seen)
                if not self._is_frozen(seen, info) or not stat.S_ISDIR(info.st_mode):
                    return
                fd = safe_open.reopened(seen, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in _GONE:
                return
            raise
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    # Whether it is one of these two is known without a further system call.
                    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
                        continue
                    if entry_type(entry.stat(follow_symlinks=False).st_mode) in types:
                        yield f"{directory.rstrip('/')}/{entry.name}"
        finally:
            os.close(fd)

    def content(self, path: str) -> Iterator[bytes]:
        """Yield the content of a regular file, in pieces. Raises: OSError."""
        with self._opened(path) as seen:
            fd = safe_open.reopened(seen, os.O_RDONLY)
        try:
            while piece := os.read(fd, PIECE):
                yield piece
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # the server's own data belong there
        finally:
            os.close(fd)


class NotFrozenError(Exception):
    """What is at a path is of no snapshot."""


def _is_below(path: str, directory: str) -> bool:
    return directory in ("/", path) or path.startswith(f"{directory.rstrip('/')}/")


def _frozen(fd: int, info: os.stat_result) -> FrozenEntry:
    kind = entry_type(info.st_mode)
    target = os.readlink("", dir_fd=fd) if kind == "link" else ""
    names = _names_of_attributes(fd)
    attributes = dict(_attributes(fd, ACLS if names is None else names))
    lists = [acl.from_xattr(attributes.pop(name)) if name in attributes else frozenset[str]() for name in ACLS]
    return FrozenEntry(
        kind, info.st_size, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, info.st_nlink,
        info.st_rdev, target, None if names is None else attributes, *lists,
    )  # fmt: skip


def _names_of_attributes(fd: int) -> Sequence[str] | None:
    """Return which extended attributes there are; None, if there are more than the kernel lists (64 KiB of names)."""
    try:
        # The magic link leads to the very inode, a symbolic link is not followed further (path_resolution(7)).
        return os.listxattr(safe_open.magic(fd))
    except OSError as error:
        if error.errno == errno.E2BIG:
            return None
        if error.errno in _NO_SUCH:
            return ()
        raise


def _attributes(fd: int, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield extended attributes of what a descriptor stands for; of a symbolic link too."""
    place = safe_open.magic(fd)
    for name in names:
        try:
            yield name, os.getxattr(place, name)
        except OSError as error:
            if error.errno not in _NO_SUCH:
                raise
