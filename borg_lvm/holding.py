"""Holding still what LVM does not hold by itself: file systems by freezing them, devices by suspending them.

All that takes a look-up, a file or a page of memory is done before anything stands still: descriptors are opened, and
our own memory is locked, because our interpreter and libraries may lie on a volume that is about to stand still.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from borg_lvm import dm, kernel, safe_open
from borg_lvm.errors import SnapshotError
from borg_lvm.plan import Copy, Plan


@dataclass(frozen=True)
class Holder:
    """The volumes of one window, ready to be held. `fds` are descriptors of their mount points or devices.

    `still` gets how many seconds each volume (by its number in the group) stood still, at most: from before it is held
    until after it is let go. Of one that LVM holds by itself only the beginning and the end of LVM's work are seen.
    """

    group: Sequence[Copy]
    fds: Sequence[int]
    still: dict[int, float] = field(default_factory=dict)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold still what LVM does not hold by itself; released in reverse, whatever happens.

        Errors: SnapshotError.
        """
        with ExitStack() as stack:
            for number, (copy, fd) in enumerate(zip(self.group, self.fds, strict=True)):
                if copy.hold != "lvm":
                    stack.enter_context(self._timed(number))
                if copy.hold == "freeze":
                    stack.enter_context(_frozen(fd, copy.mounted_at))
                elif copy.hold == "suspend":
                    stack.enter_context(_suspended(copy))
            begin = time.monotonic()
            for number, copy in enumerate(self.group):
                if copy.hold == "lvm":
                    self.still[number] = -begin
            yield
            self._lvm_has_let_go()

    @contextmanager
    def _timed(self, number: int) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.still[number] = time.monotonic() - begin

    def _lvm_has_let_go(self) -> None:
        """Take the time, the first time that it is called."""
        for number, seconds in self.still.items():
            if seconds < 0:
                self.still[number] += time.monotonic()

    def prove_held(self) -> None:
        """Check that what we have suspended still is; SnapshotError if somebody has set it going before its time.

        LVM resumes a volume when it makes its snapshot, so in the end nothing tells any more. (A file system that we
        have frozen tells by itself, when it is to be thawed.) Called when LVM has made the snapshot of the volume that
        it holds by itself.
        """
        self._lvm_has_let_go()
        for copy in self.group:
            if copy.hold == "suspend" and not dm.is_suspended(copy.origin.dm_uuid):
                raise SnapshotError(f"{copy.origin.full_name} was set going by somebody else before its time")

    def frozen_by_others(self, wanted: Sequence[Copy]) -> list[str]:
        """Freeze some file systems for a moment; return the mount points of those that somebody else has frozen.

        There is no other way to ask the kernel. Errors: OSError when a file system cannot be frozen at all.
        """
        found = []
        for copy, fd in zip(self.group, self.fds, strict=True):
            if copy in wanted:
                try:
                    kernel.freeze(fd)
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    found.append(copy.mounted_at)
                else:
                    kernel.thaw(fd)
        return found

    def devices(self) -> frozenset[int]:
        """Return the device numbers (`st_dev`) of the volumes."""
        infos = [os.fstat(fd) for fd in self.fds]
        return frozenset(info.st_rdev if stat.S_ISBLK(info.st_mode) else info.st_dev for info in infos)

    def write_out(self) -> None:
        """Write dirty pages before the window, so that the freeze has little to wait for."""
        for copy, fd in zip(self.group, self.fds, strict=True):
            if copy.mounted_at:
                kernel.syncfs(fd)
            else:
                os.fsync(fd)


@contextmanager
def opened(plan: Plan) -> Iterator[list[int]]:
    """Open the mount point or the device of each volume, once for all that is done with it.

    Errors: SnapshotError when one cannot be opened, or is not what the survey saw: then nothing was held.
    """
    with ExitStack() as stack:
        yield [_opened(copy, plan, stack) for copy in plan.copies]


@contextmanager
def ready(group: Sequence[Copy], fds: Sequence[int]) -> Iterator[Holder]:
    """Keep our memory where it is until the end of the block, in which the window is.

    Errors: SnapshotError when the memory cannot be locked: then nothing was held.
    """
    with ExitStack() as stack:
        try:
            kernel.lock_memory()
        except OSError as error:
            raise SnapshotError(
                f"cannot lock our memory: {error.strerror}; nothing was frozen",
                remedy="allow it (LimitMEMLOCK= of a systemd unit, CAP_IPC_LOCK)",
            ) from error
        stack.callback(kernel.unlock_memory)
        yield Holder(group, fds)


def _opened(copy: Copy, plan: Plan, stack: ExitStack) -> int:
    path = copy.mounted_at or copy.origin_device
    try:
        if copy.mounted_at:
            with safe_open.as_seen(path, plan.seen[path]) as point:
                fd = safe_open.reopened(point, os.O_RDONLY)
        else:
            fd = safe_open.own_device_opened(path)
    except OSError as error:
        raise SnapshotError(f"cannot open {path}: {error.strerror}; nothing was frozen") from error
    stack.callback(os.close, fd)
    return fd


@contextmanager
def _frozen(fd: int, path: str) -> Iterator[None]:
    try:
        kernel.freeze(fd)
    except OSError as error:
        raise SnapshotError(f"cannot freeze {path}: {error.strerror}") from error
    try:
        yield
    finally:
        _thaw(fd, path)


def _thaw(fd: int, path: str) -> None:
    """Thaw what we froze. If it goes already, the snapshots are of no instant."""
    try:
        kernel.thaw(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise SnapshotError(f"{path} was set going again before its time") from error


@contextmanager
def _suspended(copy: Copy) -> Iterator[None]:
    uuid = copy.origin.dm_uuid
    try:
        dm.suspend(uuid)
    except OSError as error:
        raise SnapshotError(f"cannot suspend {copy.origin.full_name}: {error.strerror}") from error
    try:
        yield
    finally:
        dm.set_going(uuid)  # unless lvcreate has done so: it does, as soon as the snapshot is there
