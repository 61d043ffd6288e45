"""What takes a look-up, a file or a page of memory, done before anything is suspended.

Descriptors are opened, our own memory is locked (our interpreter and libraries may lie on a volume that is about to be
suspended), and what is dirty is written out.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from borg_lvm.errors import BusyError, SnapshotError
from borg_lvm.linux import btrfs, safe_open, syscalls
from borg_lvm.machine.mounts import BTRFS
from borg_lvm.planning import file_systems
from borg_lvm.planning.plan import Plan, Snapshot


@contextmanager
def opened(plan: Plan) -> Iterator[list[int]]:
    """Open the mount point or the device of each volume, once for all that is done with it.

    Raises: SnapshotError when one cannot be opened, or is not what the survey saw: then nothing was held.
    """
    with ExitStack() as stack:
        yield [_opened(snapshot, plan, stack) for snapshot in plan.snapshots]


@contextmanager
def memory_locked() -> Iterator[None]:
    """Keep our memory where it is until the end of the block, in which the window is.

    Raises: SnapshotError when the memory cannot be locked: then nothing was held.
    """
    try:
        syscalls.lock_memory()
    except OSError as error:
        raise SnapshotError(
            f"cannot lock our memory: {error.strerror}; nothing was frozen",
            remedy="allow it (LimitMEMLOCK= of a systemd unit, CAP_IPC_LOCK)",
        ) from error
    try:
        yield
    finally:
        syscalls.unlock_memory()


def devices(fds: Sequence[int]) -> frozenset[int]:
    """Return the device numbers (`st_dev`) of the volumes."""
    infos = [os.fstat(fd) for fd in fds]
    return frozenset(info.st_rdev if stat.S_ISBLK(info.st_mode) else info.st_dev for info in infos)


def frozen_by_others(group: Sequence[Snapshot], fds: Sequence[int]) -> list[str]:
    """Freeze what we are to freeze for a moment; return the mount points of what somebody else has frozen.

    A btrfs of which a subvolume is snapshotted is frozen here, and only here: in one that somebody else has frozen the
    snapshot would wait, with all other volumes suspended. While a scrub is under way nobody can have frozen it.
    There is no other way to ask the kernel. In the window it would be too late: the watchdog thaws whatever is frozen
    there. Raises: OSError when a file system cannot be frozen at all; BusyError when that would wait for long.
    """
    frozen = []
    waiting = {snapshot.name: why for snapshot, fd in zip(group, fds, strict=True) if (why := _held_up(snapshot, fd))}
    for snapshot in group:
        if snapshot.name in waiting and snapshot.hold == "freeze":
            raise held_up(snapshot, waiting[snapshot.name])
    for snapshot, fd in zip(group, fds, strict=True):
        if snapshot.may_be_frozen and snapshot.name not in waiting:
            try:
                syscalls.freeze(fd)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                frozen.append(snapshot.mounted_at)
            else:
                syscalls.thaw(fd)
    return frozen


def _held_up(snapshot: Snapshot, fd: int) -> str:
    return btrfs.held_up(fd) if snapshot.fstype == BTRFS else ""


def held_up(snapshot: Snapshot, why: str) -> BusyError:
    """Return the error for a btrfs that is not frozen now, because of what is under way on it."""
    return BusyError(
        file_systems.held_up(snapshot.mounted_at, why, "nothing was frozen"),
        remedy=file_systems.HELD_UP,
    )


def write_out(group: Sequence[Snapshot], fds: Sequence[int]) -> None:
    """Write dirty pages before the window, so that the freeze has little to wait for."""
    for snapshot, fd in zip(group, fds, strict=True):
        if snapshot.mounted_at:
            syscalls.syncfs(fd)
        else:
            os.fsync(fd)


def _opened(snapshot: Snapshot, plan: Plan, stack: ExitStack) -> int:
    path = snapshot.mounted_at or snapshot.origin_device
    try:
        if snapshot.mounted_at:
            with safe_open.as_seen(path, plan.seen[path]) as point:
                fd = safe_open.reopened(point, os.O_RDONLY)
        else:
            fd = safe_open.own_device_opened(path)
    except OSError as error:
        raise SnapshotError(f"cannot open {path}: {error.strerror}; nothing was frozen") from error
    stack.callback(os.close, fd)
    return fd
