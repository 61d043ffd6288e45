"""Processes that may have kept volumes from being frozen: they write by io_uring, and wait for a volume meanwhile.

What a thread has begun to write by io_uring ends, for the kernel, when that thread comes along again (task work); until
then the file system cannot be frozen. A thread that waits for a volume which is suspended already does not come along.
`instant.py` chooses an order in which that does not happen, where it is known which volume holds a log.
"""

from __future__ import annotations

import os
from contextlib import suppress

from borg_lvm.linux.processes import Process, devices_at, searched

RING = "anon_inode:[io_uring]"
REMEDY = (
    "if it is a database with its log on a volume of its own, name it under `applications:`, for then that volume is "
    "held still last; or have it do without io_uring (MariaDB: innodb_use_native_aio=OFF)"
)


def suspects(devices: frozenset[int]) -> list[Process]:
    """Return the processes that have an io_uring, and these devices (`st_dev`) or files on them open for writing."""
    return searched(lambda pid: _writes(pid, devices), _has_ring)


def described(devices: frozenset[int]) -> tuple[str, ...]:
    """Describe each, in the words of an error's details."""
    return tuple(
        f"{process.name} ({process.pid}) has an io_uring, and files open for writing on these volumes: what it had "
        "begun to write to one may have waited for another, which was suspended already"
        for process in suspects(devices)
    )


def _has_ring(pid: int) -> bool:
    """Look at where the descriptors of a process lead. Raises: OSError when it is gone."""
    return any(_leads_to(pid, name) == RING for name in os.listdir(f"/proc/{pid}/fd"))


def _writes(pid: int, devices: frozenset[int]) -> bool:
    """Look at the open files of a process, which may wait for a stranger. Raises: OSError when it is gone."""
    return any(_is_written(pid, name, devices) for name in os.listdir(f"/proc/{pid}/fd"))


def _leads_to(pid: int, name: str) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/{name}")
    return ""


def _is_written(pid: int, name: str, devices: frozenset[int]) -> bool:
    with suppress(OSError, StopIteration):
        with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii", errors="replace") as file:
            flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
        return flags & os.O_ACCMODE != os.O_RDONLY and bool(devices & devices_at(f"/proc/{pid}/fd/{name}"))
    return False
