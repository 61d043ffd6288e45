"""Processes that may have kept volumes from standing still: they write by io_uring to one, and wait for another.

What a thread has begun to write by io_uring ends, for the kernel, when that thread comes along again (task work); until
then the file system cannot be frozen. A thread that waits for a volume which stands still already does not come along.
`instant.py` chooses an order in which that does not happen, where it is known which volume holds a log.
"""

from __future__ import annotations

import os
from contextlib import suppress

from borg_lvm.strays import Process, devices_of, find

RING = "anon_inode:[io_uring]"
REMEDY = (
    "name the application under `applications:`, if it is not, for then its log is held still last; or have it do "
    "without io_uring (MariaDB: innodb_use_native_aio=OFF)"
)


def suspects(devices: frozenset[int]) -> list[Process]:
    """Return the processes that have an io_uring, and files of several of these devices (`st_dev`) in use."""
    return find(lambda pid: _rings(pid) and len(devices & devices_of(pid)) > 1)


def told(devices: frozenset[int]) -> tuple[str, ...]:
    """Tell of each, in the words of an error's details."""
    return tuple(
        f"{process.name} ({process.pid}) writes by io_uring, and to several of these volumes: what it had begun to "
        "write to one may have waited for another, which stood still already"
        for process in suspects(devices)
    )


def _rings(pid: int) -> bool:
    """Whether a process has an io_uring open. Errors: OSError when it is gone."""
    base = f"/proc/{pid}/fd"
    for name in os.listdir(base):
        with suppress(OSError):
            if os.readlink(f"{base}/{name}") == RING:
                return True
    return False
