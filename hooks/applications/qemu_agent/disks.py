"""Which block devices a machine has open, as the kernel shows them: its disks, by the names that LVM gives them.

Nothing that a process says of itself is believed: neither its name nor its command line. Source: proc_pid_fd(5),
Documentation/ABI/stable/sysfs-dev.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass

from borg_lvm.plugin_api import processes
from borg_lvm_hooks.applications.running import Process

PROGRAMS = ("qemu-system-", "qemu-kvm", "kvm")
"""How the names of QEMU's programs begin, by distribution."""


@dataclass(frozen=True)
class Disk:
    """A block device that a machine writes to; `number` is its `major:minor`."""

    path: str
    number: str
    is_volume: bool


def is_machine(process: Process) -> bool:
    """Whether a process runs a QEMU of root's."""
    return process.program.startswith(PROGRAMS)


def of(process: Process) -> tuple[Disk, ...]:
    """Return the block devices that a process has open for writing, those of LVM by its names for them."""
    disks: dict[str, Disk] = {}
    for number, _ in process.files():
        with suppress(OSError, ValueError):
            file = processes.file_of(process.pid, f"fd/{number}")
            if stat.S_ISBLK(file.mode) and _is_written(process.pid, number):
                device = f"{os.major(file.special)}:{os.minor(file.special)}"
                disks[device] = _named(device)
    return tuple(sorted(disks.values(), key=lambda disk: disk.path))


def number_of(path: str) -> str:
    """Return the `major:minor` of the block device at a path; empty if it is none."""
    with suppress(OSError):
        info = os.stat(path)
        if stat.S_ISBLK(info.st_mode):
            return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    return ""


def volume_at(path: str) -> Disk | None:
    """Return the logical volume at a path; None if another device is there, or none."""
    number = number_of(path)
    disk = _named(number) if number else None
    return disk if disk and disk.is_volume else None


def _is_written(pid: int, number: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
        flags = next((int(line.split()[1], 8) for line in file if line.startswith("flags:")), os.O_RDONLY)
    return flags & os.O_ACCMODE != os.O_RDONLY


def _named(device: str) -> Disk:
    sysfs = f"/sys/dev/block/{device}"
    uuid, name = _line(f"{sysfs}/dm/uuid"), _line(f"{sysfs}/dm/name")
    if name:
        return Disk(f"/dev/mapper/{name}", device, uuid.startswith("LVM-"))
    return Disk(f"/dev/{os.path.basename(os.readlink(sysfs))}", device, is_volume=False)


def _line(path: str) -> str:
    with suppress(OSError), open(path, encoding="utf-8") as file:
        return file.readline().rstrip("\n")
    return ""
