"""Who still sees a snapshot, or keeps it open, and ending that: in whatever namespace, and where nothing shows it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import suppress

from borg_lvm.linux import btrfs, device_mapper, looking, namespaces, processes, safe_mount, safe_open, syscalls
from borg_lvm.linux.processes import Process
from borg_lvm.log import Log
from borg_lvm.machine import block_devices, mounts
from borg_lvm.machine.block_devices import BlockDevice
from borg_lvm.machine.mounts import BTRFS, Mount

SETTLING = 1.0
"""Seconds in which a device's users go by themselves: udev looks at it, and what was killed is still ending."""
_PF_KTHREAD = 0x00200000
SYSTEM_USERS = (range(1000), range(61184, 65520))
"""Whose processes serve others: system users, and those that systemd makes for a service (UIDS-GIDS of systemd's)."""
_SPARED: set[Process] = set()
"""Those that were left alone, each of which is named once."""
UNMOUNTING = 5.0
"""Seconds that unmounting in one namespace may take."""


def end_viewers(devices: Collection[int], log: Log, why: str) -> str:
    """End the processes that see one of these devices mounted, whatever namespace they are in.

    When the machine itself sees one, because somebody has mounted it to look at it, that would be every process there
    is: then nothing is ended, and where it is mounted is returned.
    """
    if not devices:
        return ""
    seen = mounted(devices)
    if not seen:
        processes.end(lambda: _viewers(devices), log, why)
    return seen


def _viewers(devices: Collection[int]) -> list[Process]:
    """Return the processes that see one of the devices in another namespace than ours: there `mounted` has looked."""
    spaces, ours = _Spaces(devices), namespaces.number()
    others = [number for number, pids in spaces.pids.items() if number != ours and not all(map(_is_kernels, pids))]
    showing = frozenset(looking.answers(spaces.show, others).yes)
    return processes.find(lambda pid: namespaces.number(pid) in showing) if showing else []


def _is_kernels(pid: int) -> bool:
    """Whether a process is a thread of the kernel's: one of them has devtmpfs to itself. proc_pid_stat(5), field 9."""
    with suppress(OSError):  # it has ended
        return bool(int(processes.stat_fields(pid)[6]) & _PF_KTHREAD)
    return False


def is_seen(devices: Collection[int]) -> bool:
    """Whether anybody sees one of these devices mounted, in whatever namespace."""
    return bool(devices) and bool(mounted(devices) or _viewers(devices))


def mounted(devices: Collection[int]) -> str:
    """Return a place where we, or the machine's first process, see one of these devices mounted, else nothing."""
    marks = _marks_of(devices)
    return _mounted(marks, "/proc/self/mountinfo") or _mounted(marks, "/proc/1/mountinfo")


def _mounted(marks: Set[bytes], table: str, directory: int | None = None) -> str:
    rows = _rows(marks, table, directory)
    return os.fsdecode(rows[0][4]) if rows else ""


def _rows(marks: Set[bytes], table: str, directory: int | None = None) -> list[list[bytes]]:
    """Return the rows of a mount table that show one of these devices, by what `_marks_of` gives."""
    with open(os.open(table, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), "rb") as file:
        rows = (line.split(b" ", 5) for line in file)
        return [row for row in rows if row[2] in marks or (b" - btrfs " in row[5] and _of_btrfs(row) & marks)]


def _of_btrfs(row: list[bytes]) -> set[bytes]:
    """Return by what else a row of a btrfs may show a snapshot: its device, or a subvolume of ours at the top level."""
    return {row[5].partition(b" - btrfs ")[2].split(b" ", 1)[0], b"/".join(row[3].split(b"/", 3)[:3])}


def _marks_of(devices: Collection[int]) -> frozenset[bytes]:
    """Return what a mount table may call these devices: `major:minor`, and what it has in place of that for a btrfs.

    The kernel writes the name there by which the device was found last: by us, or by udev. Of a subvolume that counts
    as a file system of its own it is where that lies; its device is the live one's.
    """
    subvolumes = {btrfs.apart(device) for device in devices} - {""}
    numbers = frozenset(f"{os.major(device)}:{os.minor(device)}" for device in devices if not btrfs.apart(device))
    names = {name for device in map(block_devices.described, numbers) if device for name in _nodes(device)}
    return frozenset(word.encode() for word in numbers | names | subvolumes)


def _nodes(device: BlockDevice) -> tuple[str, ...]:
    group, _, volume = device.dm_name.replace("--", "\0").partition("-")
    return f"/dev/{device.name}", f"/dev/mapper/{device.dm_name}", f"/dev/{group}/{volume}".replace("\0", "-")


def subvolumes(shown: Sequence[Mount], ours: Sequence[str]) -> set[int]:
    """Return the numbers of the subvolumes of runs that some mounts show, which count as file systems of their own."""
    numbers = set()
    for mount in shown:
        if mount.fstype == BTRFS:
            with suppress(OSError), safe_open.path(mount.path) as fd:
                number = os.fstat(fd).st_dev
                top = btrfs.apart(number) or "/".join(mount.root.split("/", 3)[:3])
                if top.startswith(tuple(ours)):
                    numbers.add(btrfs.set_apart(number, top))
    return numbers


class _Spaces:
    """The mount namespaces that there are, and what is to be done in each by a child of `looking`'s.

    Each table of mounts is read once, and whole: by who has entered the namespace. Anybody may have thousands of mounts
    in a namespace of theirs, thousands of processes in it, and in each of them another root, which hides mounts.
    """

    def __init__(self, devices: Collection[int]) -> None:
        self._devices = frozenset(devices)
        self._marks = _marks_of(devices)
        self._proc = -1
        self.pids = _by_namespace()

    def show(self, number: int) -> bool:
        """Whether one of the devices is mounted in a namespace. Raises: OSError."""
        self._enter(number)
        return bool(_mounted(self._marks, "self/mountinfo", self._proc))

    def unmount(self, number: int) -> bool:
        """Unmount the devices in a namespace; return whether there was one. Raises: OSError."""
        self._enter(number)
        rows = _rows(self._marks, "self/mountinfo", self._proc)
        for row in reversed(rows):
            with suppress(OSError):
                safe_mount.unmount(mounts.plain(os.fsdecode(row[4])), syscalls.MNT_DETACH, self._devices)
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
    pids: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                pids.setdefault(namespaces.number(int(name)), []).append(int(name))
    return pids


def unmount_elsewhere(devices: Collection[int]) -> None:
    """Unmount these devices in all mount namespaces.

    A namespace that is made while they are mounted where everybody sees them gets a copy of that, and may be one that
    nothing is passed on to.
    """
    if devices:
        spaces = _Spaces(devices)
        looking.answers(spaces.unmount, list(spaces.pids), UNMOUNTING)


def end_holders(devices: Collection[int], log: Log, since: int | None = None) -> None:
    """End the processes that keep these devices of device-mapper's in use though nothing shows them, as `end_users`."""
    with suppress(OSError):
        end_users(_in_use(devices), log, since)


def end_users(devices: Collection[int], log: Log, since: int | None = None) -> None:
    """End the processes that use a file of these devices (`st_dev` of what was mounted), wherever they are.

    A user's process in the view can be entered by others of the same user, who can keep open what they find there, and
    pass it to a server that keeps it for them: so one of the system's that began before the run is named and left alone
    (`since`: when the run's process did, in clock ticks since boot; ours if it is None). Those that cannot be examined
    are left alone, too: they may be anybody's, and only busy. Nobody is ended when the machine itself has one mounted.
    Never raises: a release goes on.
    """
    with suppress(OSError):
        if devices and not mounted(devices):
            numbers = frozenset(devices)
            since = processes.start_time(os.getpid()) if since is None else since
            spared: set[Process] = set()

            def others() -> list[Process]:
                holders = processes.holders(numbers)
                spared.update(process for process in holders if _is_older_server(process, since or 0))
                return [process for process in holders if process not in spared]

            processes.end(others, log, "still using a snapshot after its view has gone")
            for process in spared - _SPARED:
                _SPARED.add(process)
                log.warning(
                    f"{process.name} ({process.pid}) has a file of a snapshot open, perhaps because a user passed it; "
                    "it began before the backup and was left alone; restart it, then: borg-lvm clean"
                )


def _is_older_server(process: Process, since: int) -> bool:
    """Whether a process is of a user of the system's, root too, and began before that time."""
    with suppress(OSError):
        uid = processes.user(process.pid)
        return process.start < since and any(uid in users for users in SYSTEM_USERS)
    return False


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


def lying_on(device: int) -> list[str]:
    """Return the names of device-mapper's devices that lie on this one (`st_rdev`), as kpartx makes some."""
    lying = []
    with suppress(OSError):
        directory = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/holders"
        for holder in sorted(os.listdir(directory)):
            with open(f"{directory}/{holder}/dm/name", encoding="utf-8", errors="replace") as file:
                lying.append(file.read().strip())
    return lying
