"""Having LVM grow a snapshot or a thin pool while the command runs, a step at a time, so that nothing waits for LVM.

LVM makes the new space known to the kernel first, and then suspends the origin, the snapshot and what lies below them
for a moment, to write down what it did. Should it die in that moment, the watchdog sets all of them going again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from borg_lvm.linux import device_mapper, subprocesses
from borg_lvm.linux.subprocesses import Steps
from borg_lvm.log import Log
from borg_lvm.machine import block_devices, lvm, lvm_groups
from borg_lvm.machine.lvm_settings import SILENT
from borg_lvm.records import dataclass
from borg_lvm.snapshots.lvm.removal.remove import GRACE
from borg_lvm.state import locks
from borg_lvm.state.ledger import Ledger
from borg_lvm.watchdog.client import Watchdog


@dataclass(frozen=True)
class Room:
    """What LVM says of a volume and its group now: bytes."""

    free: int
    extent: int
    size: int
    metadata: int


@dataclass(frozen=True)
class Target:
    """What is to grow: `name` (`vg/lv`), its group's id, the option of `lvextend` that makes it grow.

    `devices` are the device-mapper names of what LVM may suspend meanwhile. `reserved` bytes of what its group has free
    are where LVM may allocate nothing; `disks` are those from which alone it may (none: from all).
    """

    name: str
    vg_uuid: str
    devices: tuple[str, ...]
    option: str = "--size"
    reserved: int = 0
    disks: tuple[str, ...] = ()


class Grower:
    """Grows what belongs to one run; a program may take `timeout` seconds."""

    def __init__(self, watch: Watchdog, ledger: Ledger, log: Log, timeout: float) -> None:
        self._watch = watch
        self._ledger = ledger
        self._log = log
        self._timeout = timeout

    def grow(self, target: Target, choose: Callable[[Room], int]) -> Steps[tuple[Room, int]]:
        """Grow by the bytes that `choose` makes of the room that there is; returns both.

        One run at a time asks and takes, so that the reserve of a group holds.
        Raises: ProgramError, SnapshotError.
        """
        with _group_lock(target.vg_uuid) as lock:
            while not locks.taken(lock):
                yield
            try:
                alone: list[str] = []
                room = yield from self._room(target, alone)
            except subprocesses.ProgramError:  # another group of its name may have come since
                text = yield from subprocesses.stepwise(lvm_groups.list_disks(), timeout=self._timeout)
                alone = lvm_groups.only(text, target.vg_uuid)
                if not alone:
                    raise
                room = yield from self._room(target, alone)
            more = choose(room)
            if more:
                yield from self._extend(target, more, alone)
        return room, more

    def _room(self, target: Target, alone: Sequence[str]) -> Steps[Room]:
        """Ask LVM for the room; `alone` are options by which it sees the group's own disks only."""
        argv = [*lvm.report_of([target.name]), *alone]
        text = yield from subprocesses.stepwise(argv, timeout=self._timeout)
        (now,) = lvm.parse(text)
        free = max(0, now.vg_free - target.reserved)
        if target.disks:  # the group may have room elsewhere, or have lost some there
            argv = [*lvm_groups.free_on(target.disks), *alone]
            free = lvm_groups.parse_free((yield from subprocesses.stepwise(argv, timeout=self._timeout)))
        return Room(free, now.extent, now.size, now.metadata_size)

    def _extend(self, target: Target, more: int, alone: Sequence[str]) -> Steps[None]:
        uuids = [device.dm_uuid for device in _devices(target.devices)]
        for uuid in reversed(uuids):  # the watchdog resumes first what was registered last
            self._watch.may_suspend(target.name, uuid)
        for uuid in uuids:
            self._ledger.write("below", device=uuid)
        self._ledger.write("window")
        argv = ["lvextend", "--yes", target.option, f"+{more}b", "--config", SILENT, *alone, target.name, *target.disks]
        messages: list[str] = []
        try:
            with self._watch.standing_by(self._timeout, GRACE) as messages:
                try:
                    yield from subprocesses.stepwise(argv, timeout=self._timeout)
                finally:
                    messages.extend(_resumed(uuids))
        finally:
            for text in messages:
                self._log.warning(f"while a snapshot grew: {text}")
        self._ledger.write("thawed")


def _resumed(uuids: Sequence[str]) -> Iterator[str]:
    """Resume what an `lvextend` that died half-way has left suspended; yield what there is to report of it."""
    for uuid in uuids:
        try:
            if device_mapper.resume_if_suspended(uuid):
                yield f"resumed the device {uuid}, which lvextend had left suspended"
        except OSError as error:
            yield f"the device {uuid} may still be suspended: {error.strerror}"


def _devices(names: Sequence[str]) -> list[block_devices.BlockDevice]:
    """Return the devices of these names and all of device-mapper's below them, the lowest first."""
    numbers = [os.stat(f"/dev/mapper/{name}").st_rdev for name in names]
    devices = block_devices.bottom_up(f"{os.major(number)}:{os.minor(number)}" for number in numbers)
    return [device for device in devices if device.dm_uuid]


@contextmanager
def _group_lock(vg_uuid: str) -> Iterator[int]:
    """Open the lock of a volume group, which is let go at the end. Raises: SnapshotError."""
    fd = locks.opened(f"group-{vg_uuid}", "the volume group")
    try:
        yield fd
    finally:
        os.close(fd)
