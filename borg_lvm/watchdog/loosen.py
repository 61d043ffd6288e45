"""Part of the watchdog's process: has writers let go of a file system that is to be frozen.

Who writes to a file system holds it, for the kernel, until the call has ended; and some calls sleep meanwhile, for as
long as whoever feeds them likes: splice(2) and sendfile(2) from an empty pipe, write(2) from memory behind a FUSE file
system. Every user may do that. The freeze waits for them, and all other writers wait for the freeze: the volume stands
still, and borg-lvm, which waits in the kernel, can do nothing about it, nor does a signal reach it.

A call that sleeps such that a signal wakes it begins anew after SIGSTOP and SIGCONT, and waits for the freeze then as
everybody else. One that waits for a FUSE file system ends when that is aborted. Standard library only.
Source: fs/splice.c, fs/super.c; Documentation/filesystems/fuse.rst.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection, Iterator

CALLS = {
    "x86_64": {1: 0, 18: 0, 20: 0, 40: 0, 275: 2, 296: 0, 326: 2, 328: 0},
    "aarch64": {64: 0, 66: 0, 68: 0, 70: 0, 71: 0, 76: 2, 285: 2, 287: 0},
}
"""Which argument is the file's descriptor, by the kernel's number of the call on each machine.

They are write, pwrite64, writev, sendfile, splice, pwritev, copy_file_range and pwritev2."""
CONNECTIONS = "/sys/fs/fuse/connections"


def loosen(devices: Collection[int], *, abort: bool) -> None:
    """Wake every call that sleeps while it writes to one of these file systems (`st_dev`).

    With `abort` also those that wait for a file system in user space: requests to one of the same user are aborted.
    """
    for pid, tid in _tasks():
        with contextlib.suppress(OSError, ValueError):
            state = _state(tid)
            if state in "SD" and _writes_to(pid, tid, devices, late=abort):
                if state == "S":
                    os.kill(int(pid), signal.SIGSTOP)
                    os.kill(int(pid), signal.SIGCONT)
                elif abort:
                    _abort(os.stat("/proc/" + pid).st_uid)


def _tasks() -> Iterator[tuple[str, str]]:
    own = str(os.getpid())
    for pid in os.listdir("/proc"):
        if pid.isdigit() and pid != own:
            with contextlib.suppress(OSError):
                for tid in os.listdir("/proc/" + pid + "/task"):
                    yield pid, tid


def _state(tid: str) -> str:
    with open("/proc/" + tid + "/stat", "rb") as file:
        return chr(file.read().rpartition(b")")[2].split()[0][0])


def _writes_to(pid: str, tid: str, devices: Collection[int], *, late: bool) -> bool:
    """Tell whether a task is in a call that writes to one of these.

    Where the kernel does not tell calls (User Mode Linux), it may be in one if it has a file open for writing. On a
    machine whose numbers are not known that is asked when it is late: a shell sees a program that is stopped.
    """
    known = CALLS.get(os.uname().machine)
    told = "/proc/" + tid + "/syscall"
    if known is None or not os.path.exists(told):
        return (late or known is not None) and _may_write(pid, devices)
    with open(told, "rb") as file:
        number, *arguments = file.read().split()
    at = known.get(int(number))
    return at is not None and _is_open(pid, str(int(arguments[at], 16)), devices)


def _may_write(pid: str, devices: Collection[int]) -> bool:
    """Tell whether a process may be writing to one of these; one with an io_uring writes in no call."""
    folder = "/proc/" + pid + "/fd/"
    names = os.listdir(folder)
    if any("io_uring" in os.readlink(folder + name) for name in names):
        return False
    return any(_is_open(pid, name, devices) for name in names)


def _is_open(pid: str, fd: str, devices: Collection[int]) -> bool:
    """Tell whether a descriptor is of a file on one of these, and may be written to."""
    with contextlib.suppress(OSError):
        if os.stat("/proc/" + pid + "/fd/" + fd).st_dev in devices:
            return bool(os.lstat("/proc/" + pid + "/fd/" + fd).st_mode & 0o200)  # the link's mode tells
    return False


def _abort(uid: int) -> None:
    """Abort the FUSE connections of a user, not root, at which somebody waits."""
    with contextlib.suppress(OSError):
        _see_connections()
    for name in os.listdir(CONNECTIONS) if uid else ():
        folder = CONNECTIONS + "/" + name
        with contextlib.suppress(OSError):
            with open(folder + "/waiting", "rb") as file:
                waiting = file.read().strip() != b"0"
            if waiting and os.stat(folder).st_uid == uid:
                with open(folder + "/abort", "wb") as file:
                    file.write(b"1")


def _see_connections() -> None:
    """Mount what shows them, for this process alone, where nobody has. Raises: OSError."""
    if os.path.ismount(CONNECTIONS):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    new, private = 0x20000, 0x4000 | 0x40000  # CLONE_NEWNS; MS_REC, MS_PRIVATE
    if libc.unshare(new) or libc.mount(b"none", b"/", None, ctypes.c_ulong(private), None):
        raise OSError(ctypes.get_errno(), "unshare")
    if libc.mount(b"fusectl", CONNECTIONS.encode(), b"fusectl", ctypes.c_ulong(0), None):
        raise OSError(ctypes.get_errno(), "mount")
