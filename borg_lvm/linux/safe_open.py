"""Opening what lies below directories of other users, who may swap it at any moment.

The one place that resolves such a path. No symbolic link is followed: openat2(2) refuses them, and where that is
missing or forbidden (a sandbox) every component is opened by itself with O_NOFOLLOW. What is opened is compared with
what was seen before, and used through its descriptor, so no name is ever looked up twice (`safe_mount` mounts so).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import btrfs, syscalls
from borg_lvm.records import dataclass

DIRECTORY = os.O_PATH | os.O_DIRECTORY
_REFUSED = (errno.ENOSYS, errno.EPERM, errno.ENAMETOOLONG)
"""What openat2(2) says where it is missing or forbidden, and of a path that is longer than it takes (4,096 bytes)."""
UNSEEN = (errno.EACCES, errno.EPERM, errno.ENOTCONN, errno.ESTALE)
"""What fstat(2) says of a user's FUSE file system, of one whose server is gone, and of such an NFS."""


@dataclass(frozen=True)
class Identity:
    """A file or directory, by its file system and its inode.

    `device` is `st_dev`, but of a btrfs the number of its block device; `subvolume` is the id of that there, else 0. A
    subvolume that is `btrfs.apart` has its own `st_dev` and none.
    """

    device: int
    inode: int
    subvolume: int = 0


def opened(path: str, at: int | None = None, flags: int = os.O_PATH) -> int:
    """Open an absolute path, or one below the directory `at`, which it cannot leave. The caller closes it.

    Raises: OSError; ELOOP or ENOTDIR when a component is a symbolic link.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names or (at is None and not path.startswith("/")):
        raise OSError(errno.EINVAL, "not a plain path", path)
    try:
        if at is None:
            return syscalls.openat2(-1, "/" + "/".join(names), flags, syscalls.RESOLVE_NO_SYMLINKS)
        beneath = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_BENEATH
        return syscalls.openat2(at, "/".join(names) or ".", flags, beneath)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    return _walked(names, at, flags)


def _walked(names: list[str], at: int | None, flags: int) -> int:
    """Do what openat2 does, one component after the other."""
    here = os.open("/", DIRECTORY | os.O_CLOEXEC) if at is None else os.dup(at)
    try:
        for name in names[:-1]:
            here = _replaced(here, os.open(name, DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here))
        last = names[-1] if names else "."
        fd = os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), "/".join(names))
    return fd


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new


@contextmanager
def path(name: str, at: int | None = None, flags: int = os.O_PATH) -> Iterator[int]:
    """Have a path open for the length of the block. Raises: as `opened`."""
    fd = opened(name, at, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def own_device(name: str) -> Iterator[int]:
    """Have a device node of ours below /dev open, for its sake alone: with udev its name is a link. Raises: OSError."""
    fd = os.open(name, os.O_PATH | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def own_device_opened(name: str) -> int:
    """Open a device node of ours for reading. Raises: OSError."""
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC)


def own_device_number(name: str) -> int:
    """Return the number (`st_rdev`) of a device node of ours. Raises: OSError."""
    with own_device(name) as fd:
        return os.fstat(fd).st_rdev


def reopened(fd: int, flags: int) -> int:
    """Open once more, for reading say, what an O_PATH descriptor stands for: a directory or a regular file.

    Raises: OSError; EINVAL for anything else, for opening a pipe or a device may wait or do something.
    """
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise OSError(errno.EINVAL, "neither a directory nor a regular file", magic(fd))
    return os.open(magic(fd), flags | os.O_CLOEXEC | os.O_NONBLOCK)


def magic(fd: int, process: str = "self") -> str:
    """Return the path that leads to what a descriptor of ours stands for, whatever its name is now."""
    return f"/proc/{process}/fd/{fd}"


def magic_for_others(fd: int) -> str:
    """Return the same for another process. Our number in /proc need not be that which we know (pid namespaces)."""
    return magic(fd, os.readlink("/proc/self"))


def identity(fd: int) -> Identity:
    """Return what a descriptor stands for; zeros where root sees nothing: a user's FUSE, a server that is gone."""
    try:
        info = os.fstat(fd)
    except OSError as error:
        if error.errno not in UNSEEN:
            raise
        return Identity(0, 0)
    return _identity(info, fd)


def _identity(info: os.stat_result, what: str | int) -> Identity:
    """Return the identity of a path or a descriptor, of which this is known already."""
    on = None if os.major(info.st_dev) or btrfs.apart(info.st_dev) else btrfs.place(what)
    return Identity(on.device, info.st_ino, on.subvolume) if on else Identity(info.st_dev, info.st_ino)


def mount_id(fd: int) -> int:
    """Return the number, as in /proc/self/mountinfo, of the mount that a descriptor lies on."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def seen(name: str, mount: int | None = None) -> Identity | None:
    """Return what is at a path now; None if nothing is. `mount` is the number of the mount that it must lie on.

    Raises: SnapshotError when it leads through a link, or to another mount.
    """
    with suppress(FileNotFoundError), explained(name), path(name) as fd:
        if mount is not None and mount_id(fd) != mount:
            raise changed(name, "something else is mounted there")
        return identity(fd)
    return None


@contextmanager
def as_seen(name: str, known: Identity) -> Iterator[int]:
    """Have a path open for the length of the block, if it is still what was seen there. Raises: SnapshotError."""
    try:
        fd = opened(name)
    except OSError as error:
        raise swapped(name, error) from error
    try:
        refuse_another(fd, known, name)
        yield fd
    finally:
        os.close(fd)


def refuse_another(fd: int, known: Identity, name: str) -> None:
    """Raise SnapshotError unless a descriptor stands for what was seen."""
    if identity(fd) != known:
        raise changed(name, "something else has its name now")


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Have what cannot be opened in the block end in a SnapshotError, but for what is not there."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise swapped(name, error) from error


def is_link(error: OSError) -> bool:
    """Whether a path could not be opened because a component is a symbolic link, or no directory any more."""
    return error.errno in (errno.ELOOP, errno.ENOTDIR)


def swapped(name: str, error: OSError) -> SnapshotError:
    """Return the error of a path that cannot be opened any more, from the kernel's."""
    linked = is_link(error)
    return changed(name, "it leads through a symbolic link now" if linked else error.strerror or str(error))


def changed(name: str, why: str) -> SnapshotError:
    """Return the error of a path that is not what it was when the run examined it."""
    return SnapshotError(
        f"{name} was replaced or moved while the run began: {why}",
        remedy="run it again; if that helps not, see who else may rename what is on the way to it",
    )


def enter(directory: str) -> None:
    """Make a directory the working directory, through no link. Raises: OSError."""
    with path(directory, flags=DIRECTORY) as fd:
        os.fchdir(fd)


def directories(name: str, at: int | None = None, mode: int = 0o700) -> int:
    """Make a directory, and those above it that are missing; return a descriptor of it. Raises: OSError."""
    here = os.open("/", DIRECTORY | os.O_CLOEXEC) if at is None else os.dup(at)
    try:
        for part in (part for part in name.split("/") if part):
            with suppress(FileExistsError):
                os.mkdir(part, mode, dir_fd=here)
            here = _replaced(here, opened(part, here, DIRECTORY))
    except BaseException:
        os.close(here)
        raise
    return here


def new_file(directory: int, name: str, content: bytes) -> None:
    """Write a file that is not there yet, for the directory's owner alone. Raises: OSError."""
    if "/" in name or name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "not a plain name", name)
    owner = os.fstat(directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    with os.fdopen(fd, "wb") as stream:
        os.fchown(fd, owner.st_uid, owner.st_gid)
        stream.write(content)
        stream.flush()
        os.fsync(fd)


def used(name: str) -> int:
    """Return the bytes in use on the file system at a path. Raises: SnapshotError."""
    try:
        with path(name) as fd:
            statistics = os.fstatvfs(fd)
    except OSError as error:
        raise swapped(name, error) from error
    return (statistics.f_blocks - statistics.f_bfree) * statistics.f_frsize


def shown(name: str) -> Identity:
    """Return what a path shows through no link; zeros if nothing."""
    with suppress(OSError), path(name) as fd:
        return identity(fd)
    return Identity(0, 0)


def device_at(name: str, *, links: bool = False) -> int:
    """Return the number (`st_rdev`) of the device that is at a path, 0 if there is none.

    With `links` the path is a name that the user gave, or one of ours below /dev, and may be a link.
    """
    with suppress(OSError):
        if links:
            return os.stat(name).st_rdev
        with path(name) as fd:
            return os.fstat(fd).st_rdev
    return 0


def device_behind(name: str) -> int:
    """Return the device (as `Identity` has it) that a path leads to, every link followed, 0 if none: to be compared."""
    try:
        return _identity(os.stat(name), name).device
    except OSError:
        return 0


def is_there(name: str) -> bool:
    """Whether there is anything at a path, as its reader finds it: through links, but for one at its end."""
    return os.path.lexists(name)


def leads_to(name: str) -> str:
    """Return where a path leads, every link followed: to be compared, not to be opened. Raises: SnapshotError."""
    for _ in range(100):
        with suppress(OSError):  # a link was exchanged since it was seen, which realpath(3) does not expect
            return os.path.realpath(name)
    raise changed(name, "a link on the way to it is exchanged again and again")
