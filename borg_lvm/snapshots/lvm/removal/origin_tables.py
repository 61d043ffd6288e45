"""Whether the kernel's table of an origin is the one that LVM's metadata wants, and putting that right.

While LVM makes a snapshot or removes one, the origin's table and the metadata change one after the other. A command
that is killed in between, as for want of memory, leaves a live volume on a `snapshot-origin` over a hidden `-real` of
which LVM knows nothing (`lvs` shows `-wi-XX--X-`): no command reads it again, and the next change of the volume fails.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack, suppress

from borg_lvm.errors import BorgLvmError
from borg_lvm.linux import device_mapper, subprocesses
from borg_lvm.log import Log
from borg_lvm.machine import lvm
from borg_lvm.machine.lvm import Volume
from borg_lvm.machine.lvm_settings import SILENT
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots.lvm import group_lock

ORIGIN = "snapshot-origin"
PATIENCE = 10.0
"""Seconds to wait for a command of LVM's that may be at work on a volume."""


def suspicious(uuids: Iterable[str]) -> bool:
    """Return, without asking LVM, whether one of these devices has the table of an origin: it may be wrong then."""
    return any(device_mapper.kind(uuid) == ORIGIN for uuid in uuids)


def wrong(volumes: Sequence[Volume]) -> list[Volume]:
    """Return the active volumes that are origins of snapshots for the kernel and are none for LVM."""
    return [volume for volume in volumes if volume.attr[0] not in "oO" and device_mapper.kind(volume.dm_uuid) == ORIGIN]


def put_right(uuids: Collection[str] | None, log: Log, timeout: float) -> tuple[bool, Leftovers]:
    """Put right the volumes of these ids (dm uuids), or all, that are on a wrong table.

    Returns whether there were any, and which are so still. LVM is asked, so `suspicious` is to be asked before. Nothing
    is raised.
    """
    leftovers = Leftovers()
    try:
        listed = [volume for volume in lvm.report(timeout, hidden=True) if uuids is None or volume.dm_uuid in uuids]
    except BorgLvmError as error:
        leftovers.append(f"cannot tell whether the volumes are as LVM knows them: {error.message}")
        return False, leftovers
    disagreeing = wrong(listed)
    for volume in disagreeing:
        why = _refreshed(volume, timeout)
        if why:
            leftovers.harms(foreign_table(volume, why))
        else:
            log.warning(f"{volume.full_name} was on a table that LVM knew nothing of: it was refreshed")
    return bool(disagreeing), leftovers


def _refreshed(volume: Volume, timeout: float) -> str:
    """Have LVM load the table that it wants; return why that could not be done."""
    why = ""
    try:
        subprocesses.run(["lvchange", "--refresh", "--config", SILENT, volume.full_name], timeout=timeout)
    except BorgLvmError as error:
        why = " ".join([error.message, *error.details])
    with suppress(OSError):
        device_mapper.resume_if_suspended(volume.dm_uuid)  # a refresh that was killed half-way
    with suppress(OSError):
        device_mapper.remove(f"{volume.dm_uuid}-real")
    still = bool(wrong([volume]))
    return (why or "LVM says that it did") if still else ""


def resume_left(uuid: str, vg: str, timeout: float, patience: float = PATIENCE) -> bool:
    """Resume a volume (dm uuid) that a program which died has left suspended; return whether there was need to.

    A command of LVM's that is at work suspends volumes as well, and must not be disturbed: its lock is waited for, for
    so many seconds. Raises: OSError.
    """
    if not device_mapper.is_suspended(uuid):
        return False
    with ExitStack() as stack:
        if patience:
            with suppress(BorgLvmError, OSError):
                stack.enter_context(
                    group_lock.locked([vg], group_lock.directory(group_lock.settings(timeout)), patience)
                )
        return device_mapper.resume_if_suspended(uuid)


def foreign_table(volume: Volume, why: str) -> str:
    """Return what a person is to know of a volume that could not be put right."""
    return (
        f"{volume.full_name} is in use with a table that LVM knows nothing of, left by a command of LVM's that was "
        f"killed: lvchange --refresh {volume.full_name} must put that right, and could not ({why})"
    )
