"""Restores paths of an archive into a directory of ours: what a plugin reads back for `prove`, written down again.

An archive may hold anything, and is written to disk by root: each name is opened below our directory, through no link.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.errors import SourceError
from borg_lvm.linux import safe_open
from borg_lvm.planning.snapshot_size import human
from borg_lvm.plugins.read_back import DamagedError, Entry, Saved, Selection
from borg_lvm.proof import acl
from borg_lvm.proof.programs import MOST_MEMORY
from borg_lvm.records import dataclass

BLOCK = 4096
ROOM = 128 << 20
"""Bytes that a restored application gets beside its own, for what it writes while it recovers and is checked."""
SHARE = 5
"""And a part of its own size: one fifth."""
UNKNOWN = 0o600


@dataclass(frozen=True)
class ToRestore:
    """What is restored of an application: all entries of the archive at and below its paths; or why nothing is."""

    entries: tuple[Entry, ...]
    why: str = ""

    @property
    def files(self) -> int:
        """How many files."""
        return sum(entry.type == "file" for entry in self.entries)

    @property
    def bytes(self) -> int:
        """Of how many bytes."""
        return sum(entry.size or 0 for entry in self.entries if entry.linked is None)

    @property
    def room(self) -> int:
        """How many bytes it needs on the scratch space."""
        used = sum(BLOCK + -(-(entry.size or 0) // BLOCK) * BLOCK for entry in self.entries if entry.linked is None)
        return used + used // SHARE + ROOM


def listed(saved: Saved, selections: Mapping[str, Selection], most: int = MOST_MEMORY) -> dict[str, ToRestore]:
    """Return what an archive holds of each application, by its name. Raises: ProgramError, DamagedError.

    All of its entries are listed once; those that are wanted are kept, in `most` bytes of memory. If that is too
    little, the application that needs most is left out: its owner has made so many files, and others are judged.
    """
    kept: dict[str, list[Entry]] = {name: [] for name in selections}
    sizes = dict.fromkeys(selections, 0)
    left_out: dict[str, ToRestore] = {}
    for entry in saved.whole(functools.reduce(Selection.joined, selections.values(), Selection())):
        for name in [name for name in kept if selections[name].wants(entry.path)]:
            kept[name].append(entry)
            sizes[name] += _memory(entry)
        while sum(sizes.values()) > most:
            largest = max(sizes, key=lambda name: sizes[name])
            del sizes[largest]
            why = f"it has more than {len(kept.pop(largest)):,} files, too many for the memory that listing them takes"
            left_out[largest] = ToRestore((), why)
    return {name: left_out.get(name) or ToRestore(tuple(kept[name])) for name in selections}


def _memory(entry: Entry) -> int:
    """Return about how many bytes of memory an entry takes, or more."""
    texts = (entry.path, entry.target, entry.linked, entry.listed)
    attributes = sum(200 + len(name) + len(value) for name, value in (entry.xattrs or {}).items())
    lists = len(entry.acl or ()) + len(entry.default_acl or ())
    return 1024 + 4 * sum(len(text or "") for text in texts) + attributes + 200 * lists


def room_in(directory: str) -> int:
    """Return how many bytes a directory's file system has free, without those that are reserved for root."""
    info = os.statvfs(directory)
    return info.f_bavail * info.f_frsize


def refuse_without_room(directory: str, needed: int) -> None:
    """Raise SourceError, with numbers, if a directory's file system has not so many bytes free."""
    free = room_in(directory)
    if free < needed:
        raise SourceError(
            f"the scratch space in {directory} is too small: {human(needed)} are needed, {human(free)} are free",
            remedy="name another directory with --scratch",
        )


def restore(saved: Saved, wanted: ToRestore, selection: Selection, directory: str, check: Callable[[], None]) -> None:
    """Write everything below a directory of ours, which is empty, at its whole path there.

    Sockets and devices are left out. `check` is called now and then, and may raise.
    Raises: DamagedError when the archive lacks the content of a file, or has another one; OSError, ProgramError.
    """
    with safe_open.path(directory, flags=safe_open.DIRECTORY) as root:
        for entry in sorted(wanted.entries, key=lambda entry: entry.linked is not None):  # of what is there then
            check()
            _make(entry, root)
        files = {entry.path: entry for entry in wanted.entries if entry.type == "file" and entry.linked is None}
        for path, pieces in saved.contents(selection):
            check()
            if path not in files:
                raise DamagedError(f"{path}: the archive holds its content twice, or of what is no file")
            most = files.pop(path).size
            size = _fill(root, path, _at_most(most, path, pieces), check)
            if most not in (size, None):
                raise DamagedError(f"{path}: the archive holds {size} bytes of it, and says otherwise")
        lacking = [path for path, entry in files.items() if entry.size]
        if lacking:
            raise DamagedError(f"{lacking[0]}: the archive holds no content of it ({len(lacking)} such files)")
        _finish(wanted.entries, root, check)


@contextmanager
def _parent(path: str, root: int) -> Iterator[tuple[int, str]]:
    """Have the directory of an entry open, which is made if it is not there."""
    above, name = os.path.split(path.strip("/"))
    fd = safe_open.directories(above, root, 0o755)
    try:
        yield fd, name
    finally:
        os.close(fd)


def _make(entry: Entry, root: int) -> None:
    with _parent(entry.path, root) as (directory, name):
        if not name:
            return
        if entry.linked is not None:
            with _parent(entry.linked, root) as (other, old):
                os.link(old, name, src_dir_fd=other, dst_dir_fd=directory, follow_symlinks=False)
        elif entry.type == "directory":
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=directory)
        elif entry.type == "file":
            new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, new, UNKNOWN, dir_fd=directory)
            try:
                _own(fd, entry)
            finally:
                os.close(fd)
        elif entry.type == "link":
            if not entry.target:
                raise DamagedError(f"{entry.path}: the archive does not hold where this link leads")
            os.symlink(entry.target, name, dir_fd=directory)
            os.chown(name, entry.uid or 0, entry.gid or 0, dir_fd=directory, follow_symlinks=False)
        elif entry.type == "fifo":
            os.mkfifo(name, UNKNOWN, dir_fd=directory)
            os.chown(name, entry.uid or 0, entry.gid or 0, dir_fd=directory, follow_symlinks=False)


def _own(fd: int, entry: Entry) -> None:
    """Give a file or a directory its owner, mode, attributes and lists. No file works as another user or group."""
    os.fchown(fd, entry.uid or 0, entry.gid or 0)
    mode = UNKNOWN if entry.mode is None else entry.mode
    os.fchmod(fd, mode if entry.type == "directory" else mode & ~(stat.S_ISUID | stat.S_ISGID))
    for name, value in (entry.xattrs or {}).items():
        if name.startswith("user."):  # others are the kernel's, or say who may do what
            with suppress(OSError):  # the scratch space may know none
                os.setxattr(fd, name, value)
    for name, entries in ((acl.ACCESS, entry.acl), (acl.DEFAULT, entry.default_acl)):
        if entries:
            with suppress(OSError, ValueError, LookupError):  # nor these; or it has a name that is not known here
                os.setxattr(fd, name, acl.to_xattr(entries))


def _at_most(most: int | None, path: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a content, for which there is no more room than the archive has said. Raises: DamagedError."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if most is not None and size > most:
            raise DamagedError(f"{path}: the archive holds more than the {most} bytes that it says")
        yield piece


def _fill(root: int, path: str, pieces: Iterable[bytes], check: Callable[[], None]) -> int:
    """Write the content of a file that was made; where there are only zeros, it gets a hole. Returns its size."""
    with safe_open.path(path.strip("/"), root) as handle:
        fd = safe_open.reopened(handle, os.O_WRONLY)
    size = 0
    try:
        for piece in pieces:
            check()
            if piece.count(0) != len(piece):
                _write(fd, piece, size)
            size += len(piece)
        os.ftruncate(fd, size)
    finally:
        os.close(fd)
    return size


def _write(fd: int, data: bytes, place: int) -> None:
    while data:
        written = os.pwrite(fd, data, place)
        data, place = data[written:], place + written


def _finish(entries: Sequence[Entry], root: int, check: Callable[[], None]) -> None:
    """Give directories their owners and modes, and all that is no link its time: what is inside is there now."""
    for entry in sorted(entries, key=lambda entry: entry.path, reverse=True):
        check()
        if entry.type not in ("directory", "file") or entry.linked is not None:
            continue
        with safe_open.path(entry.path.strip("/"), root) as handle:
            fd = safe_open.reopened(handle, os.O_RDONLY)
        try:
            if (entry.type == "directory") != stat.S_ISDIR(os.fstat(fd).st_mode):  # no file gets a directory's mode
                raise DamagedError(f"{entry.path}: the archive has it as a file, and as a directory")
            if entry.type == "directory":
                _own(fd, entry)
            if entry.mtime is not None:
                os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)
