"""System calls that Python 3.11 does not have: mounts, namespaces, freezing, openat2. Thin, and nothing else.

Every function raises OSError with the kernel's errno and names the call and the path.
Numbers are from the kernel's own headers: linux/mount.h, sched.h, linux/fs.h, linux/prctl.h, asm-generic/mman.h,
linux/openat2.h, linux/inotify.h, linux/fanotify.h, linux/capability.h, linux/keyctl.h, linux/stat.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Mapping

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOSYMFOLLOW = 0x1, 0x2, 0x4, 0x8, 0x100
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x20, 0x1000, 0x4000, 0x40000, 0x80000, 0x100000
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
CLONE_FS = 0x00000200
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
MCL_CURRENT, MCL_FUTURE = 1, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 23, 24, 38
PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 8, 47, 2
CAPABILITIES_3, CAP_BLOCK_SUSPEND = 0x20080522, 36
KEYCTL_JOIN_SESSION_KEYRING = 1
AT_FDCWD, AT_STATX_DONT_SYNC, STATX_OWNER = -100, 0x4000, 0xB  # its type, its mode and its owner
RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x04, 0x08
SYS_OPEN_TREE, SYS_OPENAT2 = 428, 437  # on every architecture
SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 430, 431, 432  # on every architecture
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
FSOPEN_CLOEXEC = FSMOUNT_CLOEXEC = 0x1
MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x2, 0x4, 0x8
OPEN_TREE_CLONE, AT_EMPTY_PATH = 0x1, 0x1000
IN_ATTRIB, IN_MOVE_SELF, IN_DELETE_SELF, IN_Q_OVERFLOW = 0x4, 0x800, 0x400, 0x4000
FAN_ACCESS, FAN_CLOSE_NOWRITE = 0x1, 0x10
FAN_CLOEXEC, FAN_NONBLOCK, FAN_MARK_ADD, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM = 0x1, 0x2, 0x1, 0x10, 0x100
SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280, "i686": 288, "armv7l": 311}
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217, "i686": 217, "armv7l": 218}

_libc = ctypes.CDLL(None, use_errno=True)
_ioctl = _libc.ioctl


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _check(result: int, call: str, path: str = "") -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", path or None)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def mount(source: str | None, target: str, fstype: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    result = _libc.mount(_bytes(source), _bytes(target), _bytes(fstype), ctypes.c_ulong(flags), _bytes(options))
    _check(result, "mount", target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2); a symbolic link as target is never followed."""
    _check(_libc.umount2(_bytes(target), flags | UMOUNT_NOFOLLOW), "umount", target)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    _check(_libc.setns(fd, kind), "setns")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2), which glibc does not wrap."""
    number = SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(number, _bytes(new_root), _bytes(put_old)), "pivot_root", new_root)


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """openat2(2), which glibc does not wrap; the descriptor is not inherited."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    fd = int(_libc.syscall(SYS_OPENAT2, directory, _bytes(path), ctypes.byref(how), ctypes.sizeof(how)))
    _check(min(fd, 0), "openat2", path)
    return fd


def statx_known(path: str) -> bytes:
    """statx(2): what the kernel knows of a file already; no file system is asked, which may not answer."""
    buffer = ctypes.create_string_buffer(256)
    _check(_libc.statx(AT_FDCWD, _bytes(path), AT_STATX_DONT_SYNC, STATX_OWNER, buffer), "statx", path)
    return buffer.raw


def open_tree(directory: int) -> int:
    """open_tree(2), which glibc before 2.36 does not wrap: a directory in a copy of its mount, and that alone."""
    fd = int(_libc.syscall(SYS_OPEN_TREE, directory, b"", OPEN_TREE_CLONE | AT_EMPTY_PATH | os.O_CLOEXEC))
    _check(min(fd, 0), "open_tree")
    return fd


def detached_mount(fstype: str, source: str, options: Mapping[str, str]) -> int:
    """fsopen(2), fsconfig(2), fsmount(2): a mount at no path, which ends with its descriptor.

    The file system is asked for read-only, the mount itself is not: so no file system that is mounted read-only
    becomes writable by it, and one that is mounted writable can be written to.
    """
    context = int(_libc.syscall(SYS_FSOPEN, _bytes(fstype), FSOPEN_CLOEXEC))
    _check(min(context, 0), "fsopen", fstype)
    try:
        for key, value in {"source": source, **options}.items():
            result = _libc.syscall(SYS_FSCONFIG, context, FSCONFIG_SET_STRING, _bytes(key), _bytes(value), 0)
            _check(result, "fsconfig", source)
        _check(_libc.syscall(SYS_FSCONFIG, context, FSCONFIG_SET_FLAG, b"ro", None, 0), "fsconfig", source)
        _check(_libc.syscall(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig", source)
        attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
        fd = int(_libc.syscall(SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, attributes))
        _check(min(fd, 0), "fsmount", source)
    finally:
        os.close(context)
    return fd


def inotify() -> int:
    """inotify_init1(2): a queue of events that is read without waiting."""
    fd = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    _check(min(fd, 0), "inotify_init1")
    return fd


def inotify_watch(queue: int, path: str, mask: int) -> int:
    """inotify_add_watch(2); returns the number of the watch."""
    number = int(_libc.inotify_add_watch(queue, _bytes(path), ctypes.c_uint32(mask)))
    _check(min(number, 0), "inotify_add_watch", path)
    return number


def fanotify(flags: int) -> int:
    """fanotify_init(2): a queue that is read without waiting; each event has a descriptor, opened with `flags`."""
    fd = int(_libc.fanotify_init(FAN_CLOEXEC | FAN_NONBLOCK, ctypes.c_uint(flags | os.O_CLOEXEC)))
    _check(min(fd, 0), "fanotify_init")
    return fd


def fanotify_mark(queue: int, path: str, mask: int, kind: int) -> None:
    """fanotify_mark(2): have events of a file, or by `kind` of more (FAN_MARK_FILESYSTEM), queued."""
    flags = ctypes.c_uint(FAN_MARK_ADD | kind)
    _check(_libc.fanotify_mark(queue, flags, ctypes.c_uint64(mask), -1, _bytes(path)), "fanotify_mark", path)


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def drop_bounding_set(kept: int | None = None) -> None:
    """Have no program that is executed later gain a capability, but one that is `kept` (prctl(2), PR_CAPBSET_DROP)."""
    for number in range(64):
        if number != kept and _libc.prctl(PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) == 1:
            prctl(PR_CAPBSET_DROP, number)


def drop_capabilities(kept: int | None = None) -> None:
    """Have no capability from now on: permitted, effective or inheritable (capset(2)).

    But of one that is `kept`, of which none is in effect: programs that are executed later have it, too.
    """
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0)
    low, high = (0, 0) if kept is None else ((1 << kept) & 0xFFFFFFFF, (1 << kept) >> 32)
    data = (ctypes.c_uint32 * 6)(0, low, low, 0, high, high)  # twice: effective, permitted, inheritable
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")
    if kept is not None:
        _check(_libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, ctypes.c_ulong(kept), 0, 0), "prctl")


def leave_session_keyring() -> None:
    """Have a session keyring of our own, which is empty (keyctl(2)): each process of a session possesses its keys.

    What we start has it too. Where the kernel has no keyrings, or a sandbox forbids the call, no key can be read.
    """
    _libc.syscall(SYS_KEYCTL[os.uname().machine], KEYCTL_JOIN_SESSION_KEYRING, None)


def lock_memory() -> None:
    """Bring all memory of this process in and keep it there, what comes later included (mlockall(2))."""
    _check(_libc.mlockall(MCL_CURRENT | MCL_FUTURE), "mlockall")


def unlock_memory() -> None:
    """Let the kernel page this process's memory out again (munlockall(2))."""
    _check(_libc.munlockall(), "munlockall")


def syncfs(fd: int) -> None:
    """Write out the file system that `fd` lies on (syncfs(2)); makes a freeze that follows short."""
    _check(_libc.syncfs(fd), "syncfs")


def freeze(fd: int) -> None:
    """Freeze the file system that `fd` lies on (ioctl FIFREEZE); EBUSY when it is frozen already."""
    fcntl.ioctl(fd, FIFREEZE, 0)


def thaw(fd: int) -> None:
    """Thaw the file system that `fd` lies on (ioctl FITHAW); EINVAL when it is not frozen."""
    fcntl.ioctl(fd, FITHAW, 0)


def ioctl(fd: int, request: int, buffer: ctypes.Array[ctypes.c_char]) -> None:
    """ioctl(2), while other threads go on: Python's own call lets none go on when a buffer has more than 1 KiB."""
    _check(_ioctl(fd, ctypes.c_ulong(request), buffer), "ioctl")
