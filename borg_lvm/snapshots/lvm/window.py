"""The window: every volume is suspended, the snapshots begin to work, every volume is resumed. Nothing else.

4N calls of device-mapper, one of them to see that a volume is still held; no process, no path, no read of a disk:
`arm.py` has made everything ready. All volumes are held at once, so all snapshots show the same instant: one between
the last suspend and the first resume.
"""

from __future__ import annotations

import errno
import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from borg_lvm import dm, kernel
from borg_lvm.errors import SnapshotError
from borg_lvm.report import Instant
from borg_lvm.signals import undisturbed
from borg_lvm.snapshots.lvm import tables
from borg_lvm.snapshots.lvm.arm import Member


def take(members: Sequence[Member]) -> Instant:
    """Have the snapshots show one instant.

    Raises: SnapshotError: a volume cannot be held, or somebody else has resumed one before its time. Then every volume
    works by the table that it had.
    """
    still: list[float] = []
    with _at_once():
        begin, start = time.time(), time.monotonic()
        with ExitStack() as held:
            for member in members:
                held.enter_context(_held(member, still))
            for member in members:
                _appear(member)
            for member in members:
                _prove_held(member)
        seconds = time.monotonic() - start
    names = tuple(member.copy.origin.full_name for member in members)
    return Instant(names, begin, seconds, tuple(reversed(still)))


@contextmanager
def _at_once() -> Iterator[None]:
    """Come before all other processes meanwhile, where we may, hold off stray signals, and look for no garbage.

    Each call waits for the kernel, and after that for a processor, which the writers on the volumes want as well.
    """
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    gc.disable()
    try:
        with suppress(OSError):  # a sandbox, a control group without time for this
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        with undisturbed():
            yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, policy, priority)
        gc.enable()


@contextmanager
def _held(member: Member, still: list[float]) -> Iterator[None]:
    """Hold a volume; `still` gets for how many seconds, from before it is held until after it is resumed."""
    begin = time.monotonic()
    with ExitStack() as stack:
        if member.copy.crypt:  # the file system lies above, where device-mapper does not see it
            stack.enter_context(_frozen(member))
        stack.enter_context(_suspended(member, member.origin))
        if member.beneath:
            stack.enter_context(_suspended(member, member.beneath))
        yield
    still.append(time.monotonic() - begin)


@contextmanager
def _frozen(member: Member) -> Iterator[None]:
    try:
        kernel.freeze(member.fd)
    except OSError as error:
        raise _cannot("freeze", member, error) from error
    try:
        yield
    finally:
        _thaw(member)


def _thaw(member: Member) -> None:
    """Thaw what we froze. If it goes already, the snapshots are of no instant."""
    try:
        kernel.thaw(member.fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise SnapshotError(f"{member.copy.mounted_at} was thawed by somebody else before its time") from error


@contextmanager
def _suspended(member: Member, uuid: str) -> Iterator[None]:
    try:
        dm.suspend(uuid)
    except OSError as error:
        raise _cannot("suspend", member, error) from error
    try:
        yield
    except BaseException:
        dm.set_going(uuid)
        raise
    dm.start(uuid)


def _cannot(what: str, member: Member, error: OSError) -> SnapshotError:
    name, at = member.copy.origin.full_name, member.copy.mounted_at
    if error.errno == errno.EBUSY and at:
        return SnapshotError(
            f"{at}: somebody else has frozen it; no snapshot was taken",
            remedy=f"find out who, then: fsfreeze --unfreeze {at}",
        )
    return SnapshotError(f"cannot {what} {name}: {error.strerror}; no snapshot was taken")


def _appear(member: Member) -> None:
    """Have a snapshot begin to work."""
    try:
        if not member.copy.extents:
            dm.message(member.written.pool, f"create_snap {member.written.number} {member.written.origin}")
            return
        if member.waits:
            if tables.health(*dm.status("", member.origin)) != member.health:
                raise SnapshotError(f"a disk of {member.copy.origin.full_name} has just failed; no snapshot was taken")
            dm.start(f"{member.origin}-real")
        dm.start(member.snapshot, dm.QUIET)
    except OSError as error:
        name = member.copy.origin.full_name
        raise SnapshotError(f"the kernel did not make the snapshot of {name}: {error.strerror}") from error


def _prove_held(member: Member) -> None:
    """Check that a volume is still suspended: in the end nothing would tell."""
    if not dm.is_suspended(member.origin):
        raise SnapshotError(f"{member.copy.origin.full_name} was resumed by somebody else before its time")
