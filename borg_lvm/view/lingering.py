"""Processes that outlive the command inside its view, and letting go of the view in spite of them."""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

from borg_lvm.linux import device_mapper, looking, safe_open, syscalls
from borg_lvm.linux import namespaces as namespaces
from borg_lvm.log import Log
from borg_lvm.machine import mounts
from borg_lvm.state.ledger import start_time
from borg_lvm.view.mounting import Step

PATIENCE = 2.0
"""Seconds between asking a process to end and forcing it."""
COMMAND_PATIENCE = 10.0
"""The same for the command: a backup program lets go of its repository first."""
LOOK_AGAIN = 0.5
"""Seconds at most between two looks whether they have ended: each is a pass over all of /proc."""
SETTLING = 1.0
"""Seconds in which a device's users go by themselves: udev looks at it, and what was killed is still ending."""
UNMOUNTING = 5.0
"""Seconds that unmounting in one namespace may take."""


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


_SILENT: dict[Process, bool] = {}
"""The processes that did not let themselves be looked at, and whether that was told: they are waited for but once."""


def searched(asks: Callable[[int], bool], among: Callable[[int], bool] = lambda pid: True) -> list[Process]:
    """Return the processes, but us, for which `asks(pid)` holds, which may wait for a stranger (`looking`).

    `among` leaves out some, and must not wait. Who does not let himself be looked at is left out, and told by `end`.
    """
    found = find(among)
    found.sort(key=lambda process: process in _SILENT)  # so that they do not hold up the others again
    said = looking.answers(asks, [process.pid for process in found])
    yes, silent = set(said.yes), set(said.silent)
    for process in found:
        if process.pid in silent:
            if start_time(process.pid) == process.start:
                _SILENT.setdefault(process, False)
        else:
            _SILENT.pop(process, None)
    return [process for process in found if process.pid in yes]


def _tell_silent(log: Log) -> None:
    new = [process for process, told in _SILENT.items() if not told]
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
        lambda pid: any(devices & found for found in _open_devices(pid)), lambda pid: namespaces.number(pid) == inode
    )


def holders(devices: frozenset[int]) -> list[Process]:
    """Return the processes, wherever they are, that use a file of one of the devices (`st_dev`)."""
    return searched(lambda pid: _uses(pid, devices)) if devices else []


def devices_of(pid: int) -> set[int]:
    """Return the devices of a process's root, working directory, program, open files and mapped files.

    A device that is open itself counts as well. For us and who has called us: others may have us wait for ever.
    """
    return {device for found in _devices_of(pid) for device in found}


def _uses(pid: int, devices: frozenset[int]) -> bool:
    """Whether a process uses one of the devices. May wait for ever: its maps are looked at if nothing else tells."""
    return any(devices & found for found in _devices_of(pid))


def _devices_of(pid: int) -> Iterator[set[int]]:
    base = f"/proc/{pid}"
    yield from (devices_at(f"{base}/{link}") for link in ("cwd", "root", "exe"))
    yield from _open_devices(pid)
    with open(f"{base}/maps", "rb") as maps:
        numbers = {line.split(None, 5)[3] for line in maps}
    yield {os.makedev(*(int(part, 16) for part in number.split(b":"))) for number in numbers}


def _open_devices(pid: int) -> Iterator[set[int]]:
    folder = f"/proc/{pid}/fd"
    yield from (devices_at(f"{folder}/{name}") for name in os.listdir(folder))


def devices_at(path: str) -> set[int]:
    """Return the device that a file is on, and the one that it is, if it is any; none if it is gone."""
    with suppress(OSError):
        info = os.stat(path)
        return {info.st_dev, info.st_rdev} if stat.S_ISBLK(info.st_mode) else {info.st_dev}
    return set()


def end(processes: Callable[[], Sequence[Process]], log: Log, why: str, patience: float = PATIENCE) -> None:
    """End processes: ask, wait, force. Each is named in the log, and so is who cannot be looked at."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        sent: set[Process] = set()
        deadline, pause = time.monotonic() + patience, 0.05
        while found := processes():
            _send(signum, [process for process in found if process not in sent], log, why)
            sent.update(found)  # what they have started meanwhile gets it too
            if time.monotonic() >= deadline:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, LOOK_AGAIN)
        else:
            break
    _tell_silent(log)


def _send(signum: signal.Signals, processes: Sequence[Process], log: Log, why: str) -> None:
    if processes:
        names = ", ".join(f"{process.name} ({process.pid})" for process in processes)
        log.warning(f"{why}: sending {signum.name} to {names}")
    for process in processes:
        process.kill(signum)


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
    end_holders(devices, log)


def end_viewers(devices: Collection[int], log: Log, why: str) -> str:
    """End the processes that see one of these devices mounted, whatever namespace they are in.

    When the machine itself sees one, because somebody has mounted it to look at it, that would be every process there
    is: then nothing is ended, and where it is mounted is returned.
    """
    if not devices:
        return ""
    seen = mounted(devices)
    if not seen:
        end(lambda: _viewers(devices), log, why)
    return seen


def _viewers(devices: Collection[int]) -> list[Process]:
    spaces = _Spaces(devices)
    showing = frozenset(looking.answers(spaces.show, list(spaces.pids)).yes)
    return find(lambda pid: namespaces.number(pid) in showing) if showing else []


def mounted(devices: Collection[int]) -> str:
    """Return a place where we, or the machine's first process, see one of these devices mounted, else nothing."""
    numbers = _told(devices)
    return _mounted(numbers, "/proc/self/mountinfo") or _mounted(numbers, "/proc/1/mountinfo")


def _mounted(numbers: Set[bytes], table: str, folder: int | None = None) -> str:
    rows = _rows(numbers, table, folder)
    return os.fsdecode(rows[0][4]) if rows else ""


def _rows(numbers: Set[bytes], table: str, folder: int | None = None) -> list[list[bytes]]:
    """Return the rows of a mount table that show one of these devices (`major:minor`)."""
    with open(os.open(table, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        rows = (line.split(b" ", 5) for line in file)
        return [row for row in rows if row[2] in numbers]


def _told(devices: Collection[int]) -> frozenset[bytes]:
    return frozenset(f"{os.major(device)}:{os.minor(device)}".encode() for device in devices)


class _Spaces:
    """The mount namespaces that there are, and what is to be done in each by a child of `looking`'s.

    Each table of mounts is read once, and whole: by who has entered the namespace. Anybody may have thousands of mounts
    in a namespace of theirs, thousands of processes in it, and in each of them another root, which hides mounts.
    """

    def __init__(self, devices: Collection[int]) -> None:
        self._devices = frozenset(devices)
        self._numbers = _told(devices)
        self._proc = -1
        self.pids = _by_namespace()

    def show(self, number: int) -> bool:
        """Whether one of the devices is mounted in a namespace. Raises: OSError."""
        self._enter(number)
        return bool(_mounted(self._numbers, "self/mountinfo", self._proc))

    def unmount(self, number: int) -> bool:
        """Unmount the devices in a namespace; tell whether there was one. Raises: OSError."""
        self._enter(number)
        rows = _rows(self._numbers, "self/mountinfo", self._proc)
        for row in reversed(rows):
            with suppress(OSError):
                safe_open.unmount(mounts.plain(os.fsdecode(row[4])), syscalls.MNT_DETACH, self._devices)
        return bool(rows)

    def _enter(self, number: int) -> None:
        if self._proc < 0:  # a namespace need not have one, or may have something else there
            self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for pid in self.pids[number]:
            with suppress(OSError):  # it has ended, and another one has not
                namespace = os.open(f"{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
                try:
                    if os.fstat(namespace).st_ino == number:
                        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
                        return
                finally:
                    os.close(namespace)
        raise OSError(errno.ESRCH, "nobody lives in the mount namespace", str(number))


def _by_namespace() -> Mapping[int, list[int]]:
    """Return the processes by the number of their mount namespace."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                found.setdefault(namespaces.number(int(name)), []).append(int(name))
    return found


def unmount_elsewhere(devices: Collection[int]) -> None:
    """Unmount these devices in all mount namespaces.

    A namespace that is made while they are mounted where everybody sees them gets a copy of that, and may be one that
    nothing is passed on to.
    """
    if devices:
        spaces = _Spaces(devices)
        looking.answers(spaces.unmount, list(spaces.pids), UNMOUNTING)


def end_holders(devices: Collection[int], log: Log) -> None:
    """End the processes that keep these devices (`st_dev` of what was mounted) in use though nothing shows them.

    A user's process in the view can be entered by others of the same user, who can keep open what they find there.
    Those that cannot be looked at are named and left alone: they may be anybody's, and only busy. Nobody is ended when
    the machine itself has one mounted. Never raises: a release goes on.
    """
    with suppress(OSError):
        held = _in_use(devices)
        if held and not mounted(held):
            end(lambda: holders(held), log, "still using a snapshot after its view has gone")


def _in_use(devices: Collection[int]) -> frozenset[int]:
    """Return those of the devices that something has open; waits a moment for them to be let go of."""
    end = time.monotonic() + SETTLING
    while (held := frozenset(filter(is_open, devices))) and time.monotonic() < end:
        time.sleep(0.02)
    return held


def is_open(device: int) -> bool:
    """Whether a device of device-mapper's (`st_rdev`) is open or mounted; not if it is gone.

    By another device that lies on it (LUKS) does not count: that is asked about itself.
    """
    try:
        return device_mapper.users(device) > len(
            os.listdir(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/holders")
        )
    except OSError:
        return False


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
        safe_open.unmount(step.target, syscalls.MNT_DETACH if step.kind == "hole" else 0)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted (any more): an earlier try has done it
            raise
