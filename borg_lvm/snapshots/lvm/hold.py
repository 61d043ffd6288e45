"""A volume of LVM's in the window: suspended, its snapshot begins to work, resumed.

Four calls of device-mapper, one of them to see that it is still held; no process, no path, no read of a disk: `arm.py`
has made everything ready, and each call is prepared before, for on a slow processor an interpreter takes longer than
the kernel.
"""

from __future__ import annotations

import errno
import time
from contextlib import ExitStack

from borg_lvm.errors import BusyError, SnapshotError
from borg_lvm.linux import btrfs, device_mapper, syscalls
from borg_lvm.linux.dm_ioctl import SUSPENDED
from borg_lvm.machine.mounts import BTRFS
from borg_lvm.snapshots import prepare
from borg_lvm.snapshots.lvm import tables
from borg_lvm.snapshots.lvm.arm import Member


class VolumeHold:
    """A volume in the window, its calls prepared. `seconds`: from before it was held until after it was resumed."""

    def __init__(self, member: Member) -> None:
        self.name = member.snapshot.origin.full_name
        self.seconds = 0.0
        self._member = member
        self._begin = 0.0
        self._frozen = False
        self._suspended: list[str] = []
        uuids = [member.origin, *([member.beneath] if member.beneath else [])]
        self._suspend = [(uuid, device_mapper.suspending(uuid)) for uuid in uuids]
        self._resume = [device_mapper.starting(uuid) for uuid in reversed(uuids)]
        self._look = device_mapper.looking(member.origin)
        self._held_up = btrfs.prepared(member.fd) if member.snapshot.fstype == BTRFS else str
        if member.snapshot.extents:
            real = [device_mapper.starting(f"{member.origin}-real")] if member.waits else []
            self._appear = [*real, device_mapper.starting(member.uuid, device_mapper.QUIET)]
        else:
            text = f"create_snap {member.written.number} {member.written.origin}"
            self._appear = [device_mapper.messaging(member.written.pool, text)]

    def suspend(self) -> None:
        """Suspend the volume; before that freeze what device-mapper does not. Raises: SnapshotError, BusyError."""
        self._begin = time.monotonic()
        member, what = self._member, "freeze"
        try:
            if member.snapshot.hold == "freeze":  # device-mapper does not see what lies above LUKS, nor a btrfs
                self._refuse_held_up()
                syscalls.freeze(member.fd)
                self._frozen = True
            what = "suspend"
            for uuid, suspend in self._suspend:
                suspend()
                self._suspended.append(uuid)
        except OSError as error:
            raise _cannot(what, member, error) from error

    def _refuse_held_up(self) -> None:
        """Refuse to freeze a btrfs while it would wait, and all writers with it. Raises: BusyError."""
        if why := self._held_up():
            raise prepare.held_up(self._member.snapshot, why)

    def appear(self) -> None:
        """Have the snapshot begin to work. Raises: SnapshotError."""
        member = self._member
        try:
            if member.waits and tables.health(*device_mapper.status("", member.origin)) != member.health:
                raise SnapshotError(
                    f"a disk of {member.snapshot.origin.full_name} has just failed; no snapshot was taken"
                )
            for start in self._appear:
                start()
        except OSError as error:
            name = member.snapshot.origin.full_name
            raise SnapshotError(f"the kernel did not make the snapshot of {name}: {error.strerror}") from error

    def prove(self) -> None:
        """Check that the volume is still suspended: in the end nothing would show it. Raises: BusyError."""
        if not self._look() & SUSPENDED:
            raise resumed_by_others(self._member.snapshot.origin.full_name)

    def resume(self) -> None:
        """Resume the volume, by the table that was loaded. Raises: OSError; BusyError: it had been thawed already."""
        for start in self._resume:
            start()
            self._suspended.pop()
        if self._frozen:
            self._frozen = False
            _thaw(self._member)
        self.seconds = time.monotonic() - self._begin

    def give_up(self) -> None:
        """Resume the volume as it was before, after an error. Raises: OSError."""
        with ExitStack() as stack:
            if self._frozen:
                stack.callback(_thaw, self._member)
            for uuid in self._suspended:
                stack.callback(device_mapper.resume_if_suspended, uuid)


def _thaw(member: Member) -> None:
    """Thaw what we froze. If it goes already, the snapshots are of no instant."""
    try:
        syscalls.thaw(member.fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        at = member.snapshot.mounted_at
        raise BusyError(
            f"somebody thawed {at} while its snapshot was taken; that snapshot was thrown away",
            remedy=f"find out what calls `fsfreeze --unfreeze {at}` (a script, a timer), and let it not run meanwhile",
        ) from error


def resumed_by_others(name: str) -> BusyError:
    """Return the error for a volume (`vg/lv`) that did not stay suspended: another attempt may find it undisturbed."""
    return BusyError(
        f"somebody resumed {name} while its snapshot was taken; that snapshot was thrown away",
        remedy="find out what calls `vgchange --activate y`, `lvchange --refresh` or `dmsetup resume` (a script in a "
        "loop, a timer, a rule of udev's), and let it not run while a backup begins",
    )


def _cannot(what: str, member: Member, error: OSError) -> SnapshotError:
    name, at = member.snapshot.origin.full_name, member.snapshot.mounted_at
    if error.errno == errno.EBUSY and at:
        return SnapshotError(
            f"{at}: somebody else has frozen it; no snapshot was taken",
            remedy=f"find out who, then: fsfreeze --unfreeze {at}",
        )
    return SnapshotError(f"cannot {what} {name}: {error.strerror}; no snapshot was taken")
