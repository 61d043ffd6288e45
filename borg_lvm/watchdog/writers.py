"""Part of the watchdog's process: which tasks may be in the middle of a write to a file system, and so hold it.

What is asked about a stranger's file the kernel knows by itself: stat(2), statfs(2) and the like ask the file system,
and a user's own (FUSE), or an overlay above it, never answers. Standard library only.
Source: fs/splice.c, fs/super.c, fs/locks.c, fs/overlayfs/file.c, io_uring/rw.c; proc_pid_syscall(5), proc_locks(5).
"""

import ctypes
import os
import struct
from _collections_abc import Iterator

CALLS = {
    # The second line of each are the numbers in a program of 32 bits, which the kernel does not distinguish here.
    "x86_64": {1: 0, 18: 0, 20: 0, 40: 0, 275: 2, 296: 0, 326: 2, 328: 0}
    | {4: 0, 146: 0, 181: 0, 187: 0, 239: 0, 313: 2, 334: 0, 377: 2, 379: 0},
    "aarch64": {64: 0, 66: 0, 68: 0, 70: 0, 71: 0, 76: 2, 285: 2, 287: 0}
    | {4: 0, 146: 0, 181: 0, 187: 0, 239: 0, 340: 2, 362: 0, 391: 2, 393: 0},
}
"""Which argument is the file's descriptor, by the kernel's number of the call on each machine.

They are write, pwrite64, writev, sendfile, splice, pwritev, copy_file_range and pwritev2."""
OPENING = {
    "x86_64": (2, 76, 85, 257, 437, 5, 8, 92, 193, 295),
    "aarch64": (45, 56, 437, 5, 8, 92, 193, 322),
}
"""The calls that wait for a lease to be given back while they hold the file system: open, creat, openat, openat2 and
truncate; those of 32 bits as well."""
RING = "io_uring"
IO_WORKER = 0x10  # PF_IO_WORKER, linux/sched.h
LOW = 0xFFFFFFFF
STATX, DONT_SYNC, TYPE = {"x86_64": 332, "aarch64": 291}, 0x4000, 0x1
HANDLE, FOLLOW, ROOM = {"x86_64": 303, "aarch64": 264}, 0x400, 128
FORMAT, REGULAR = 0o170000, 0o100000
OF_BTRFS = (0x4D, 0x4E, 0x4F)
OF_A_LAYER = (0, 0xF8, 0xFB)
"""What the handle of a file is called by an overlay: nothing, or this (linux/exportfs.h)."""
LIBC = ctypes.CDLL(None, use_errno=True)


class Targets:
    """The file systems that are to be let go of.

    `marks` are those of btrfs, of which each subvolume has a number of its own: the lower half of `f_fsid`.
    """

    def __init__(self, devices: frozenset[int], marks: frozenset[int]) -> None:
        self.devices = devices
        self.marks = marks

    def has(self, path: str) -> bool:
        """Return whether a path leads to one of them, or to an overlay, which may lie above one. Raises: OSError."""
        device, mode = known(path)
        if device in self.devices:
            return True
        if os.major(device) or mode & FORMAT != REGULAR:
            return False
        kind = handle(path)
        if kind in OF_BTRFS:
            return bool(self.marks) and os.statvfs(path).f_fsid & LOW in self.marks
        return kind in OF_A_LAYER

    def are_leased(self) -> bool:
        """Return whether somebody waits for a lease of a file on one of these, which its holder does not give back."""
        try:
            with open("/proc/locks", "rb") as file:
                lines = [line.split() for line in file if b" BREAKING " in line]
            places = [next(word for word in line if word.count(b":") == 2).split(b":") for line in lines]
        except (OSError, StopIteration):
            return False
        devices = {os.makedev(int(major, 16), int(minor, 16)) for major, minor, _ in places}
        return bool(devices & self.devices or (self.marks and any(not os.major(device) for device in devices)))


def known(path: str) -> tuple[int, int]:
    """Return the device (`st_dev`) and the mode of a path, by statx(2), AT_STATX_DONT_SYNC. Raises: OSError."""
    number = STATX.get(os.uname().machine)
    if number is None:
        info = os.stat(path)
        return info.st_dev, info.st_mode
    buffer = bytearray(256)
    place = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    if LIBC.syscall(number, -100, os.fsencode(path), DONT_SYNC, TYPE, place):
        raise OSError(ctypes.get_errno(), "statx", path)
    (mode,) = struct.unpack_from("=H", buffer, 28)
    major, minor = struct.unpack_from("=2I", buffer, 136)
    return os.makedev(major, minor), mode


def handle(path: str) -> int:
    """Return the type of the handle that the kernel has for a file, 0 if none: some file systems are known by it."""
    number = HANDLE.get(os.uname().machine)
    if number is None:
        return 0
    buffer, mount = bytearray(8 + ROOM), ctypes.c_int()
    struct.pack_into("=I", buffer, 0, ROOM)
    place = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    if LIBC.syscall(number, -100, os.fsencode(path), place, ctypes.byref(mount), FOLLOW):
        return 0
    (kind,) = struct.unpack_from("=i", buffer, 4)
    return int(kind)


def tasks() -> Iterator[tuple[str, str]]:
    """Yield all tasks but ours: the number of the process, and their own."""
    own = str(os.getpid())
    for pid in os.listdir("/proc"):
        if pid.isdigit() and pid != own:
            try:
                tids = os.listdir("/proc/" + pid + "/task")
            except OSError:
                continue  # it has ended
            for tid in tids:
                yield pid, tid


def state(tid: str) -> str:
    """Return what a task does: one letter, proc_pid_stat(5). Raises: OSError."""
    return chr(_fields(tid)[0][0])


def _fields(tid: str) -> list[bytes]:
    with open("/proc/" + tid + "/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def runs(tid: str) -> str:
    """Return a mark of whether a task has run: how often it was given a processor, empty if it has ended."""
    try:
        with open("/proc/" + tid + "/status", "rb") as file:
            return " ".join(line.decode() for line in file if b"ctxt_switches" in line)
    except OSError:
        return ""


def sleeps(pid: str, tid: str, on: Targets, *, late: bool, leased: bool) -> bool:
    """Return whether a task that sleeps may hold one of these. Raises: OSError, ValueError: it has ended.

    Nothing says what a worker of an io_uring does, and its file need not be open anywhere else
    (IORING_REGISTER_FILES): when it is `late`, each one may. `leased`: somebody waits for a lease.
    """
    if int(_fields(tid)[6]) & IO_WORKER:
        return late or leased or has_open(pid, on)
    if leased and _opens(tid):
        return True
    return writes_to(pid, tid, on, late=late)


def _opens(tid: str) -> bool:
    """Return whether a task opens or truncates something; of each it may be, where the kernel names no calls."""
    number = _call(tid)
    return not number or int(number[0]) in OPENING[os.uname().machine]


def writes_to(pid: str, tid: str, on: Targets, *, late: bool) -> bool:
    """Return whether a task is in a call that writes to one of these. Raises: OSError, ValueError: it has ended.

    Where the kernel names no calls (User Mode Linux), it may be in one if it has a file open for writing. On a
    machine whose numbers are not known that is asked when it is late: a shell sees a program that is stopped.
    """
    words = _call(tid)
    if not words:
        return (late or os.uname().machine in CALLS) and not _has_ring(pid) and has_open(pid, on)
    at = CALLS[os.uname().machine].get(int(words[0]))
    return at is not None and _is_open(pid, str(int(words[at + 1], 16) & LOW), on)


def _call(tid: str) -> list[bytes]:
    """Return the number of the call that a task is in, and its arguments; nothing where the kernel does not say."""
    path = "/proc/" + tid + "/syscall"
    if os.uname().machine not in CALLS or not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        return file.read().split()


def begun_by_ring(pid: str, on: Targets) -> bool:
    """Return whether a process may have begun to write to one of these by an io_uring. Raises: OSError."""
    return _has_ring(pid) and has_open(pid, on)


def _has_ring(pid: str) -> bool:
    directory = "/proc/" + pid + "/fd/"
    return any(RING in os.readlink(directory + name) for name in os.listdir(directory))


def has_open(pid: str, on: Targets) -> bool:
    """Return whether a process has a file on one of these open for writing. Raises: OSError."""
    return any(_is_open(pid, name, on) for name in os.listdir("/proc/" + pid + "/fd/"))


def _is_open(pid: str, fd: str, on: Targets) -> bool:
    """Return whether a descriptor is of a file on one of these, and may be written to."""
    path = "/proc/" + pid + "/fd/" + fd
    try:
        return bool(os.lstat(path).st_mode & 0o200) and on.has(path)  # as a link's mode says
    except OSError:
        return False  # it is closed
