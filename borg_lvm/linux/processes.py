"""Processes of the machine: found, asked what they use, and ended. Each is safe against its number being given away."""

from __future__ import annotations

import os
import signal
import stat
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from borg_lvm.linux import btrfs, looking, namespaces, syscalls
from borg_lvm.log import Log
from borg_lvm.records import dataclass

PATIENCE = 2.0
"""Seconds between asking a process to end and forcing it."""
_ON_DISK = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO)
"""What may be on a btrfs and be open; the rest are sockets and the like, of which a server has thousands."""
_STATX = struct.Struct("=20xI4xH98x4I")
"""Of what statx(2) returns: owner, mode, both numbers of the device that it is, and of the one that it is on."""
LOOK_AGAIN = 0.5
"""Seconds at most between two looks whether they have ended: each is a pass over all of /proc."""


def stat_fields(pid: int | str) -> list[bytes]:
    """Return what the kernel reports of a process, or a thread, from its state on: proc_pid_stat(5), fields 3 and up.

    Its name stands before, and may have brackets and blanks in it. Raises: OSError when there is none.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def start_time(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None if there is none, or only a zombie."""
    try:
        fields = stat_fields(pid)
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def user(pid: int) -> int:
    """Return the number of the user who has started a process, whatever that may do. Raises: OSError if it has ended.

    Whose its directory in /proc is, it can choose: that is root's when nobody may trace it.
    """
    with open(f"/proc/{pid}/status", "rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"Uid:")), 0)


def control_group(pid: int | str) -> str:
    """Return the control group of a process, as cgroup version 2 has it; its name may be of any bytes.

    Raises: OSError when it has ended, ValueError where there is no version 2.
    """
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        (path,) = (line[3:].rstrip("\n") for line in file if line.startswith("0::"))
    return path


@dataclass(frozen=True)
class Process:
    """A process, safe against its number being given to another."""

    pid: int
    start: int
    name: str

    def kill(self, signum: int) -> None:
        """Send a signal, if it is still the same process."""
        if start_time(self.pid) == self.start:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)


def find(belongs: Callable[[int], bool]) -> list[Process]:
    """Return the processes, but us, for which `belongs(pid)` holds; those that vanish meanwhile are left out.

    It is asked first, for nearly all are others', and once more where it holds: by then the number may be another's.
    """
    belonging = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            pid = int(name)
            if belongs(pid) and (start := start_time(pid)) is not None and belongs(pid):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    belonging.append(Process(pid, start, file.read().strip()))
    return belonging


_SILENT: dict[Process, bool] = {}
"""The processes that could not be examined, and whether that was reported: they are waited for but once."""


def searched(asks: Callable[[int], bool], among: Callable[[int], bool] = lambda pid: True) -> list[Process]:
    """Return the processes, but us, for which `asks(pid)` holds, which may wait for a stranger (`looking`).

    `among` leaves out some, and must not wait. One that cannot be examined is left out, and named by `end`.
    """
    candidates = find(among)
    candidates.sort(key=lambda process: process in _SILENT)  # so that they do not hold up the others again
    said = looking.answers(asks, [process.pid for process in candidates])
    yes, silent = set(said.yes), set(said.silent)
    for process in candidates:
        if process.pid in silent:
            if start_time(process.pid) == process.start:
                _SILENT.setdefault(process, False)
        else:
            _SILENT.pop(process, None)
    return [process for process in candidates if process.pid in yes]


def _warn_of_silent(log: Log) -> None:
    new = [process for process, reported in _SILENT.items() if not reported]
    if new:
        names = ", ".join(f"{process.name} ({process.pid})" for process in new)
        log.warning(f"cannot tell whether these use a snapshot, for the kernel does not let us look at them: {names}")
        _SILENT.update(dict.fromkeys(new, True))


def in_namespace(namespace: int) -> list[Process]:
    """Return the processes in the mount namespace that the descriptor stands for."""
    inode = os.fstat(namespace).st_ino
    return find(lambda pid: namespaces.number(pid) == inode)


def users(namespace: int, devices: frozenset[int]) -> list[Process]:
    """Return the processes in the namespace that use a file of one of the devices (`st_dev`)."""
    inode = os.fstat(namespace).st_ino
    return searched(lambda pid: _uses(pid, devices), lambda pid: namespaces.number(pid) == inode)


def readers(namespace: int, devices: frozenset[int]) -> list[Process]:
    """Return the processes in the namespace that have a file or a directory of one of the devices open.

    Not those that only live there: whose program, libraries or working directory are on it.
    """
    inode = os.fstat(namespace).st_ino
    return searched(
        lambda pid: any(devices & used for used in _open_devices(pid)), lambda pid: namespaces.number(pid) == inode
    )


def holders(devices: frozenset[int]) -> list[Process]:
    """Return the processes, wherever they are, that use a file of one of the devices (`st_dev`)."""
    return searched(lambda pid: _uses(pid, devices)) if devices else []


@dataclass(frozen=True)
class KnownFile:
    """What the kernel knows of a file: `st_uid`, `st_mode`, `st_rdev` and `st_dev`."""

    uid: int
    mode: int
    special: int
    device: int


def file_of(pid: int | str, link: str) -> KnownFile:
    """Return what a link in a process's directory leads to (`exe`, `fd/3`), a stranger's too. Raises: OSError.

    stat(2) asks the file system, which a user's own (FUSE, and an overlay above it) leaves without an answer for ever.
    """
    uid, mode, *numbers = _STATX.unpack_from(syscalls.statx_known(f"/proc/{pid}/{link}"))
    return KnownFile(uid, mode, os.makedev(*numbers[:2]), os.makedev(*numbers[2:]))


def devices_of(pid: int) -> set[int]:
    """Return the devices of a process's root, working directory, program, open files and mapped files.

    A device that is open itself counts as well. For us and who has called us: others may have us wait for ever.
    """
    return {device for devices in _devices_of(pid) for device in devices}


def _uses(pid: int, devices: frozenset[int]) -> bool:
    """Whether a process uses one of the devices. May wait for ever: its maps are read if nothing else shows it."""
    return any(devices & used for used in _devices_of(pid))


def _devices_of(pid: int) -> Iterator[set[int]]:
    base = f"/proc/{pid}"
    yield from (devices_at(f"{base}/{link}") for link in ("cwd", "root", "exe"))
    yield from _open_devices(pid)
    with open(f"{base}/maps", "rb") as maps:
        areas = {line.split(None, 5)[3]: os.fsdecode(line.split(None, 1)[0]) for line in maps}
    numbers = {os.makedev(*(int(part, 16) for part in number.split(b":"))): area for number, area in areas.items()}
    yield set(numbers)
    for number, area in numbers.items():
        if number and not os.major(number):  # it may be a btrfs's, which only the mapped file shows
            yield devices_at(f"{base}/map_files/{area}")


def _open_devices(pid: int) -> Iterator[set[int]]:
    directory = f"/proc/{pid}/fd"
    yield from (devices_at(f"{directory}/{name}") for name in os.listdir(directory))


def devices_at(path: str) -> set[int]:
    """Return the device that a file is on, and the one that it is, if it is any; none if it is gone."""
    with suppress(OSError):
        info = os.stat(path)
        kind = stat.S_IFMT(info.st_mode)
        unnamed = not os.major(info.st_dev) and not btrfs.apart(info.st_dev)
        if unnamed and kind in _ON_DISK and (on := btrfs.place(path)):
            return {on.device}
        return {info.st_dev, info.st_rdev} if stat.S_ISBLK(info.st_mode) else {info.st_dev}
    return set()


def end(processes: Callable[[], Sequence[Process]], log: Log, why: str, patience: float = PATIENCE) -> None:
    """End processes: ask, wait, force. Each is named in the log, and so is one that cannot be examined."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        sent: set[Process] = set()
        deadline, pause = time.monotonic() + patience, 0.05
        while left := processes():
            _send(signum, [process for process in left if process not in sent], log, why)
            sent.update(left)  # what they have started meanwhile gets it too
            if time.monotonic() >= deadline:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, LOOK_AGAIN)
        else:
            break
    _warn_of_silent(log)


def _send(signum: signal.Signals, processes: Sequence[Process], log: Log, why: str) -> None:
    if processes:
        names = ", ".join(f"{process.name} ({process.pid})" for process in processes)
        log.warning(f"{why}: sending {signum.name} to {names}")
    for process in processes:
        process.kill(signum)


def kill_all_in(inode: int) -> None:
    """Kill all that is in the mount namespace of this number, and see it go; what cannot be killed is left."""
    deadline = time.monotonic() + PATIENCE
    while left := find(lambda pid: namespaces.number(pid) == inode):
        for process in left:
            process.kill(signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)
