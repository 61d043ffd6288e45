"""One run at a time on a volume: a lock file for each origin, held by flock(2) for the life of the run.

The kernel lets go of the lock when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from borg_lvm.errors import LockedError, SnapshotError
from borg_lvm.state import directories
from borg_lvm.state.directories import STATE

if TYPE_CHECKING:
    from borg_lvm.linux.signals import Signals
    from borg_lvm.machine.lvm import Volume

DIRECTORY = os.path.join(STATE, "locks")


@contextmanager
def held(volumes: Sequence[Volume], holder: str, wait: float, signals: Signals) -> Iterator[None]:
    """Hold the lock of every volume, waiting at most `wait` seconds in all, or until a signal comes.

    Taken in the order of the volumes' ids, so that two runs cannot wait for each other.
    Raises: LockedError, which says who holds the volume; InterruptedRunError.
    """
    deadline = time.monotonic() + wait
    with ExitStack() as stack:
        for volume in sorted(volumes, key=lambda volume: volume.uuid):
            stack.enter_context(_locked(volume, holder, deadline, wait, signals))
        yield


@contextmanager
def _locked(volume: Volume, holder: str, deadline: float, wait: float, signals: Signals) -> Iterator[None]:
    fd = opened(volume.uuid, volume.full_name)
    try:
        while not taken(fd):
            signals.check()
            if time.monotonic() >= deadline:
                raise _held_by_another(volume, fd, wait)
            time.sleep(0.2)
        with suppress(OSError):  # a full /run: the lock holds all the same, it only does not say whose it is
            os.ftruncate(fd, 0)
            os.pwrite(fd, holder.encode(errors="replace"), 0)
        yield
    finally:
        os.close(fd)


def refuse_held(volumes: Sequence[Volume], waited: float = 0.0) -> None:
    """Raise LockedError if another run holds one of the volumes at this moment. Keeps no lock itself.

    `waited`: for how many seconds this was waited for already, as the user wished.
    """
    for volume in volumes:
        fd = opened(volume.uuid, volume.full_name)
        try:
            if not taken(fd):
                raise _held_by_another(volume, fd, waited)
        finally:
            os.close(fd)


def holders(volumes: Sequence[Volume]) -> Iterator[str]:
    """Yield for each volume that another run holds at this moment whose it is, and what that means for a run."""
    for volume in volumes:
        try:
            refuse_held([volume])
        except LockedError as error:
            yield f"{error.message}; until that has ended, a run waits (--lock-wait) or ends with status {error.status}"


def _held_by_another(volume: Volume, fd: int, waited: float) -> LockedError:
    other = os.pread(fd, 1000, 0).decode(errors="replace").strip()
    message = f"{volume.full_name} is being backed up by another run: {other}"
    if waited:
        return LockedError(
            f"{message}; it was waited for {waited:g} s, as --lock-wait says",
            remedy="wait longer, or start this run at another time",
        )
    return LockedError(message, remedy="wait for it with --lock-wait SECONDS, or start this run at another time")


def opened(name: str, what: str) -> int:
    """Open the file of a lock; returns its descriptor. Raises: SnapshotError, if `what` cannot be locked."""
    try:
        with directories.directory(DIRECTORY, make=True):
            return directories.opened(os.path.join(DIRECTORY, name), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise SnapshotError(
            f"cannot lock {what} in {DIRECTORY}: {error.strerror}; nothing was done",
            remedy=f"make room for {DIRECTORY}, which must be writable",
        ) from error


def taken(fd: int) -> bool:
    """Try to take an open lock; returns whether it is ours now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
