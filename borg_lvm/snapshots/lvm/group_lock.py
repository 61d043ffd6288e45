"""LVM's own lock of a volume group: while we hold it, no command of LVM's changes the group.

Source: lvm2, lib/locking/file_locking.c and lib/misc/lvm-flock.c. A process that gets a lock checks whether the file is
still the one of that name, for the one that releases it removes it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from borg_lvm.errors import BusyError
from borg_lvm.machine import lvm_settings

LOCKS = "/run/lock/lvm"
"""Where LVM keeps its locks, unless its configuration says otherwise."""
NAMES = ("global/locking_dir", "global/use_lvmlockd")
QUESTION = ["lvmconfig", "--type", "full", *NAMES]
"""The command that prints the settings of the locks; `lvm_settings.configured` reads its answer."""
_LOOK_AGAIN = 0.02


def settings(timeout: float) -> dict[str, str]:
    """Ask LVM for its settings of locks. Raises: ProgramError."""
    return lvm_settings.ask(NAMES, timeout)


def directory(settings: Mapping[str, str]) -> str:
    """Return where LVM keeps its locks, by its settings."""
    return settings.get("locking_dir") or LOCKS


@contextmanager
def locked(groups: Iterable[str], directory: str, timeout: float) -> Iterator[None]:
    """Hold the locks of these groups, taken in LVM's order.

    Raises: OSError; BusyError when a command of LVM's has kept one for `timeout` seconds.
    """
    with ExitStack() as stack:
        for group in sorted(set(groups)):
            stack.enter_context(_locked(group, directory, timeout))
        yield


@contextmanager
def _locked(group: str, directory: str, timeout: float) -> Iterator[None]:
    path = os.path.join(directory, f"V_{group}")
    end = time.monotonic() + timeout
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if _taken(fd, path):
                yield
                return
        finally:
            os.close(fd)
        if time.monotonic() >= end:
            raise BusyError(f"another command of LVM's has been at work on {group} for {timeout:g} s")
        time.sleep(_LOOK_AGAIN)


def _taken(fd: int, path: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = os.stat(path, follow_symlinks=False)
    except (BlockingIOError, FileNotFoundError):
        return False
    return there.st_ino == os.fstat(fd).st_ino
