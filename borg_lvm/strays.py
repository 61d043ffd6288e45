"""Processes that outlive the command inside its view, and letting go of the view in spite of them."""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from collections.abc import Callable, Collection, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

from borg_lvm import kernel, safe_open
from borg_lvm import namespace as namespaces
from borg_lvm.devices import mounts
from borg_lvm.laying import Step
from borg_lvm.ledger import start_time
from borg_lvm.log import Log

PATIENCE = 2.0
"""Seconds between asking a process to end and forcing it."""
COMMAND_PATIENCE = 10.0
"""The same for the command: a backup program lets go of its repository first."""
LOOK_AGAIN = 0.5
"""Seconds at most between two looks whether they have ended: each is a pass over all of /proc."""


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
    """Return the processes, but us, for which `belongs(pid)` holds; those that vanish meanwhile are left out."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            pid = int(name)
            start = start_time(pid)
            if start is not None and belongs(pid):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    found.append(Process(pid, start, file.read().strip()))
    return found


def in_namespace(namespace: int) -> list[Process]:
    """Return the processes in the mount namespace that the descriptor stands for."""
    inode = os.fstat(namespace).st_ino
    return find(lambda pid: namespaces.number(pid) == inode)


def users(namespace: int, devices: frozenset[int]) -> list[Process]:
    """Return the processes in the namespace that use a file of one of the devices (`st_dev`)."""
    inode = os.fstat(namespace).st_ino
    return find(lambda pid: namespaces.number(pid) == inode and bool(devices & devices_of(pid)))


def holders(devices: frozenset[int]) -> list[Process]:
    """Return the processes, wherever they are, that use a file of one of the devices (`st_dev`)."""
    return find(lambda pid: bool(devices & devices_of(pid)))


def devices_of(pid: int) -> set[int]:
    """Return the devices of a process's root, working directory, program, open files and mapped files.

    A device that is open itself counts as well.
    """
    base = f"/proc/{pid}"
    links = [f"{base}/cwd", f"{base}/root", f"{base}/exe"]
    links += [f"{base}/fd/{name}" for name in os.listdir(f"{base}/fd")]
    found = set[int]()
    for link in links:
        found |= devices_at(link)
    with open(f"{base}/maps", "rb") as maps:
        numbers = {line.split(None, 5)[3] for line in maps}
    return found | {os.makedev(*(int(part, 16) for part in number.split(b":"))) for number in numbers}


def devices_at(path: str) -> set[int]:
    """Return the device that a file is on, and the one that it is, if it is any; none if it is gone."""
    with suppress(OSError):
        info = os.stat(path)
        return {info.st_dev, info.st_rdev} if stat.S_ISBLK(info.st_mode) else {info.st_dev}
    return set()


def end(processes: Callable[[], Sequence[Process]], log: Log, why: str, patience: float = PATIENCE) -> None:
    """End processes: ask, wait, force. Each is named in the log."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        found = processes()
        if not found:
            return
        names = ", ".join(f"{process.name} ({process.pid})" for process in found)
        log.warning(f"{why}: sending {signum.name} to {names}")
        for process in found:
            process.kill(signum)
        deadline, pause = time.monotonic() + patience, 0.05
        while processes() and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(pause * 1.5, LOOK_AGAIN)


def kill_all_in(inode: int) -> None:
    """Kill all that is in the mount namespace of this number, and see it go; what cannot be killed is left."""
    deadline = time.monotonic() + PATIENCE
    while found := find(lambda pid: namespaces.number(pid) == inode):
        for process in found:
            process.kill(signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


class Ending:
    """Ends the command and all else in its view, while somebody else waits for it: asks, and later forces."""

    def __init__(self, pid: int, namespace: int) -> None:
        self._pid = pid
        self._inode = os.fstat(namespace).st_ino
        self._asked: float | None = None

    def go_on(self) -> None:
        """Do what is to be done now. To be called again and again."""
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
            self._send(signal.SIGTERM)
        elif now - self._asked > COMMAND_PATIENCE:
            self._send(signal.SIGKILL)

    def _send(self, signum: int) -> None:
        for process in find(self._belongs):
            process.kill(signum)

    def _belongs(self, pid: int) -> bool:
        return pid == self._pid or namespaces.number(pid) == self._inode


def let_go(namespace: int, mounted: Sequence[Step], devices: frozenset[int], log: Log) -> None:
    """Unmount the view and close its descriptor; processes that use a snapshot are ended, others live on.

    `mounted` are the view's mounts in the order in which they were made, `devices` those of its copies. When the
    command has left no process behind, closing the descriptor is all: the kernel unmounts the whole namespace before
    it returns.
    """
    try:
        if in_namespace(namespace) and not _unmounted(namespace, mounted):
            why = "still using a snapshot after the command has ended"
            end(lambda: users(namespace, devices), log, why)
            if in_namespace(namespace) and not _unmounted(namespace, mounted):
                end(lambda: in_namespace(namespace), log, why)
    finally:
        os.close(namespace)
    end_viewers(devices, log, "copies of the view live on in other namespaces")


def end_viewers(devices: Collection[int], log: Log, why: str) -> str:
    """End the processes that see one of these devices mounted, whatever namespace they are in.

    When the machine itself sees one, because somebody has mounted it to look at it, that would be every process there
    is: then nothing is ended, and where it is mounted is returned.
    """
    numbers = {f"{os.major(device)}:{os.minor(device)}".encode() for device in devices}
    if not numbers:
        return ""
    seen = _mounted(numbers, "self") or _mounted(numbers, "1")
    if not seen:
        end(lambda: find(lambda pid: bool(_mounted(numbers, str(pid)))), log, why)
    return seen


def _mounted(numbers: Set[bytes], pid: str) -> str:
    """Return a place where a process sees one of these devices (`major:minor`) mounted, else nothing."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        rows = (line.split(b" ", 5) for line in file)
        return next((os.fsdecode(row[4]) for row in rows if row[2] in numbers), "")


def unmount_elsewhere(devices: Collection[int]) -> None:
    """Unmount these devices in all mount namespaces but ours.

    A namespace that is made while they are mounted where everybody sees them gets a copy of that, and may be one that
    nothing is passed on to.
    """
    numbers = {f"{os.major(device)}:{os.minor(device)}".encode() for device in devices}
    done: set[int] = set()
    for process in find(lambda pid: bool(_mounted(numbers, str(pid)))) if numbers else ():
        with suppress(OSError):
            namespace = os.open(f"/proc/{process.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if (inode := os.fstat(namespace).st_ino) not in done:
                    done.add(inode)
                    _unmount_devices(namespace, numbers, frozenset(devices))
            finally:
                os.close(namespace)


def _unmount_devices(namespace: int, numbers: Set[bytes], devices: frozenset[int]) -> None:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # a namespace need not have one

    def work() -> str:
        with open(os.open("self/mountinfo", os.O_RDONLY, dir_fd=proc), "rb") as file:
            rows = [line.split(b" ", 5) for line in file]
        for row in reversed([row for row in rows if row[2] in numbers]):
            with suppress(OSError):
                safe_open.unmount(mounts.plain(os.fsdecode(row[4])), kernel.MNT_DETACH, devices)
        return ""

    try:
        namespaces.inside(namespace, work)
    finally:
        os.close(proc)


def _unmounted(namespace: int, mounted: Sequence[Step]) -> bool:
    """Unmount the view inside its namespace; tell whether all of it could be.

    A hole is live and may stay in use: it is only taken out of the way. A cover must really be gone.
    """

    def work() -> str:
        for step in reversed(mounted):
            _unmount(step)
        return ""

    return namespaces.inside(namespace, work) is not None


def _unmount(step: Step) -> None:
    try:
        safe_open.unmount(step.target, kernel.MNT_DETACH if step.kind == "hole" else 0)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted (any more): an earlier try has done it
            raise
