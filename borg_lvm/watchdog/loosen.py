"""Part of the watchdog's process: has writers let go of a file system that is to be frozen.

Who writes to a file system holds it, for the kernel, until the call has ended; and some calls sleep meanwhile, for as
long as the feeder likes: splice(2) and sendfile(2) from an empty pipe, write(2) from memory behind a FUSE file
system. Every user may do that. The freeze waits for them, and all other writers wait for the freeze: the volume is
frozen, and borg-lvm, which waits in the kernel, can do nothing about it, nor does a signal reach it.

A scrub or a balance of a btrfs holds it as well, for hours: it is cancelled, or paused, and can be resumed. Who begins
a run sees to it that there is none; this is for one that begins at that moment.

A call that sleeps such that a signal wakes it begins anew after SIGSTOP and SIGCONT, and waits for the freeze then as
everybody else. One that waits for a FUSE file system ends when that is aborted. What io_uring has started ends, before
Linux 6.10 or so, when its thread comes along again, which one that is stopped does not. Standard library only.
Source: fs/splice.c, fs/super.c, io_uring/rw.c; Documentation/filesystems/fuse.rst.
"""

import _signal as signal  # type: ignore[import-not-found]  # as in service.py
import ctypes
import fcntl
import os
import struct
import time
from _collections_abc import Collection, Iterable, Iterator

CALLS = {
    "x86_64": {1: 0, 18: 0, 20: 0, 40: 0, 275: 2, 296: 0, 326: 2, 328: 0},
    "aarch64": {64: 0, 66: 0, 68: 0, 70: 0, 71: 0, 76: 2, 285: 2, 287: 0},
}
"""Which argument is the file's descriptor, by the kernel's number of the call on each machine.

They are write, pwrite64, writev, sendfile, splice, pwritev, copy_file_range and pwritev2."""
CONNECTIONS = "/sys/fs/fuse/connections"
LOOKS, PAUSE = 4, 0.15
"""How often, and with how many seconds between, a request to a FUSE file system must be seen to wait."""
MOMENT = 0.1
"""Seconds that a stopped process gets to come along."""
RING = "io_uring"
SCRUB_CANCEL, BALANCE_CONTROL, BALANCE_PAUSE = 0x941C, 0x9421, 1
"""Of include/uapi/linux/btrfs.h."""
LOW = 0xFFFFFFFF
STATX, DONT_SYNC, TYPE = {"x86_64": 332, "aarch64": 291}, 0x4000, 0x1
LIBC = ctypes.CDLL(None, use_errno=True)
COMPRESSED = 0x4
"""Of linux/stat.h: what a btrfs says that its files may be, and no file system in user space does."""


def stop_scrub(fd: int) -> None:
    """Cancel a scrub of the btrfs that a descriptor is on, and pause a balance; nothing elsewhere."""
    for call, argument in ((SCRUB_CANCEL, 0), (BALANCE_CONTROL, BALANCE_PAUSE)):
        try:
            fcntl.ioctl(fd, call, argument)
        except OSError:
            pass  # no btrfs, or there is none


class Targets:
    """The file systems that are to be let go of."""

    def __init__(self, devices: frozenset[int], marks: frozenset[int]) -> None:
        self.devices = devices
        self.marks = marks

    def has(self, path: str) -> bool:
        """Tell whether a path leads to one of them. Raises: OSError."""
        device, may_be_btrfs = known(path)
        if device in self.devices:
            return True
        return bool(self.marks) and may_be_btrfs and os.statvfs(path).f_fsid & LOW in self.marks


def known(path: str) -> tuple[int, bool]:
    """Return the device (`st_dev`) of a path, and whether it may be on a btrfs. Raises: OSError.

    stat(2) and statvfs(2) ask the file system, and a user's own, or an overlay above it, never answers. This returns
    what the kernel knows: statx(2), AT_STATX_DONT_SYNC.
    """
    number = STATX.get(os.uname().machine)
    if number is None:
        device = os.stat(path).st_dev
        return device, not os.major(device)
    buffer = bytearray(256)
    place = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    if LIBC.syscall(number, -100, os.fsencode(path), DONT_SYNC, TYPE, place):
        raise OSError(ctypes.get_errno(), "statx", path)
    (attributes,) = struct.unpack_from("=Q", buffer, 56)
    major, minor = struct.unpack_from("=2I", buffer, 136)
    return os.makedev(major, minor), not major and bool(attributes & COMPRESSED)


def loosen(devices: Collection[int], marks: Collection[int] = (), *, abort: bool) -> None:
    """Wake every call that sleeps while it writes to one of these file systems (`st_dev`).

    `marks` are those of btrfs, of which each subvolume has a number of its own: the lower half of `f_fsid`.
    With `abort` also those that wait for a file system in user space: requests to one of the same user are aborted; and
    those that are stopped, while the kernel waits for them.
    """
    on = Targets(frozenset(devices), frozenset(marks))
    for pid, tid in _tasks() if devices else ():
        try:
            state = _state(tid)
            if state in "SD" and _writes_to(pid, tid, on, late=abort):
                if state == "S":
                    _send(pid, tid, state, (signal.SIGSTOP, signal.SIGCONT))
                elif abort:
                    uid = os.stat("/proc/" + pid).st_uid
                    _abort([one for one in _waited_for() if one[1] == uid])
            elif abort and state == "T" and _begun_by_ring(pid, on):
                _send(pid, tid, state, (signal.SIGCONT, signal.SIGSTOP), MOMENT)
        except (OSError, ValueError):
            pass  # it has ended


def _send(pid: str, tid: str, state: str, signals: Iterable[int], pause: float = 0) -> None:
    """Send signals to a process of which a task is in this state still. Raises: OSError when it has ended.

    By a descriptor: its number may be another's by the second one, who would stay stopped.
    """
    process = os.pidfd_open(int(pid))
    try:
        if _state(tid) == state:
            for number in signals:
                signal.pidfd_send_signal(process, number)
                time.sleep(pause)
    finally:
        os.close(process)


def insist(devices: Collection[int], marks: Collection[int] = ()) -> None:
    """Have those let go who hold one of these file systems in a way that `loosen` does not see.

    They may write as another of their users, by a worker of an io_uring, or wait for a directory that a third one reads
    into such memory. So each FUSE connection of a user's is aborted at which somebody has waited all the time, but
    root's; and a user's process is killed that has begun to write by io_uring, and is kept by who traces it.
    """
    stuck = set(_waited_for())
    for _ in range(LOOKS - 1):
        time.sleep(PAUSE)
        stuck &= set(_waited_for())
    _abort(stuck)
    on = Targets(frozenset(devices), frozenset(marks))
    traced = {task: _runs(task[1]) for task in _tasks() if _may_be_kept(*task, on)} if devices else {}
    if traced:
        time.sleep(MOMENT)
    for (pid, tid), before in traced.items():
        try:
            _end_traced(pid, tid, on, before)
        except (OSError, ValueError):
            pass  # it has ended


def _may_be_kept(pid: str, tid: str, on: Targets) -> bool:
    """Tell whether a task is stopped by who traces it, and may have begun to write to one of these."""
    try:
        return _state(tid) == "t" and _begun_by_ring(pid, on)
    except (OSError, ValueError):
        return False  # it has ended


def _end_traced(pid: str, tid: str, on: Targets, before: str) -> None:
    """Kill a user's process that is kept where it was. Raises: OSError when it has ended.

    One that is traced call by call (strace) has run meanwhile, and come to the end of what it had begun.
    """
    process = os.pidfd_open(int(pid))  # its number may soon be another's
    try:
        if os.stat("/proc/" + pid).st_uid and _state(tid) == "t" and _begun_by_ring(pid, on) and _runs(tid) == before:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            _report("killed process " + pid + ", which a debugger keeps in the middle of a write")
    finally:
        os.close(process)


def _runs(tid: str) -> str:
    """Return what tells whether a task has run: how often it was given a processor, empty if it has ended."""
    try:
        with open("/proc/" + tid + "/status", "rb") as file:
            return " ".join(line.decode() for line in file if b"ctxt_switches" in line)
    except OSError:
        return ""


def _tasks() -> Iterator[tuple[str, str]]:
    own = str(os.getpid())
    for pid in os.listdir("/proc"):
        if pid.isdigit() and pid != own:
            try:
                tids = os.listdir("/proc/" + pid + "/task")
            except OSError:
                continue  # it has ended
            for tid in tids:
                yield pid, tid


def _state(tid: str) -> str:
    with open("/proc/" + tid + "/stat", "rb") as file:
        return chr(file.read().rpartition(b")")[2].split()[0][0])


def _writes_to(pid: str, tid: str, on: Targets, *, late: bool) -> bool:
    """Tell whether a task is in a call that writes to one of these.

    Where the kernel does not tell calls (User Mode Linux), it may be in one if it has a file open for writing. On a
    machine whose numbers are not known that is asked when it is late: a shell sees a program that is stopped.
    """
    known = CALLS.get(os.uname().machine)
    syscall = "/proc/" + tid + "/syscall"
    if known is None or not os.path.exists(syscall):
        return (late or known is not None) and _may_write(pid, on)
    with open(syscall, "rb") as file:
        number, *arguments = file.read().split()
    at = known.get(int(number))
    return at is not None and _is_open(pid, str(int(arguments[at], 16)), on)


def _may_write(pid: str, on: Targets) -> bool:
    """Tell whether a process may be writing to one of these; one with an io_uring writes in no call."""
    return not _has_ring(pid) and _has_open(pid, on)


def _begun_by_ring(pid: str, on: Targets) -> bool:
    """Tell whether a process may have begun to write to one of these by an io_uring."""
    return _has_ring(pid) and _has_open(pid, on)


def _has_ring(pid: str) -> bool:
    directory = "/proc/" + pid + "/fd/"
    return any(RING in os.readlink(directory + name) for name in os.listdir(directory))


def _has_open(pid: str, on: Targets) -> bool:
    return any(_is_open(pid, name, on) for name in os.listdir("/proc/" + pid + "/fd/"))


def _is_open(pid: str, fd: str, on: Targets) -> bool:
    """Tell whether a descriptor is of a file on one of these, and may be written to."""
    try:
        if on.has("/proc/" + pid + "/fd/" + fd):
            return bool(os.lstat("/proc/" + pid + "/fd/" + fd).st_mode & 0o200)  # the link's mode tells
    except OSError:
        pass  # it is closed
    return False


def _waited_for() -> Iterator[tuple[str, int]]:
    """Yield the FUSE connections of users, not root's, at which somebody waits: a directory, and the user's number."""
    try:
        _see_connections()
    except OSError:
        pass  # then what is there is examined
    for name in os.listdir(CONNECTIONS):
        directory = CONNECTIONS + "/" + name
        try:
            with open(directory + "/waiting", "rb") as file:
                waiting = file.read().strip() != b"0"
            uid = os.stat(directory).st_uid
        except OSError:
            continue  # it has gone
        if waiting and uid:
            yield directory, uid


def _abort(connections: Iterable[tuple[str, int]]) -> None:
    for directory, uid in connections:
        try:
            with open(directory + "/abort", "wb") as file:
                file.write(b"1")
            number = directory.rpartition("/")[2]
            _report(
                "aborted FUSE connection " + number + " of user " + str(uid) + ", for which writers may have waited"
            )
        except OSError:
            pass  # it has gone


def _report(text: str) -> None:
    """Write it into the kernel's log, which needs no disk."""
    try:
        log = os.open("/dev/kmsg", os.O_WRONLY)
        os.write(log, b"<4>borg-lvm: a volume could not be frozen by its deadline: " + text.encode() + b"\n")
        os.close(log)
    except OSError:
        pass  # a container has none


def _see_connections() -> None:
    """Mount what shows them, for this process alone, where nobody has. Raises: OSError."""
    if os.path.ismount(CONNECTIONS):
        return
    new, private = 0x20000, 0x4000 | 0x40000  # CLONE_NEWNS; MS_REC, MS_PRIVATE
    if LIBC.unshare(new) or LIBC.mount(b"none", b"/", None, ctypes.c_ulong(private), None):
        raise OSError(ctypes.get_errno(), "unshare")
    if LIBC.mount(b"fusectl", CONNECTIONS.encode(), b"fusectl", ctypes.c_ulong(0), None):
        raise OSError(ctypes.get_errno(), "mount")
