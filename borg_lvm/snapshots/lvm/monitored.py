"""What is monitored while the command runs, a snapshot or a part of a thin pool, and having it extended.

A look is one ioctl, no process. What is to be done is decided in `planning/space/growth_policy.py`.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Literal

from borg_lvm.linux import device_mapper
from borg_lvm.linux.subprocesses import Steps
from borg_lvm.log import Log
from borg_lvm.machine import block_devices
from borg_lvm.machine.lvm import Volume, dm_name
from borg_lvm.planning.plan import Snapshot
from borg_lvm.planning.snapshot_size import human
from borg_lvm.planning.space import growth_policy
from borg_lvm.planning.space.growth_policy import Curve, FillHistory, PoolStatistics, Rest, Sample, SnapshotStatistics
from borg_lvm.records import dataclass
from borg_lvm.snapshots.lvm.extend import Grower, Room, Target
from borg_lvm.snapshots.provider import Growth

MARKS = (0.25, 0.5, 0.75, 0.9)
"""Parts of a snapshot's space that are shown on a terminal when they are passed."""
WRITES_END = 5.0
"""Seconds after a loss within which writes that began before it have ended."""


@dataclass(frozen=True)
class MonitorMeans:
    """What everything that is watched needs."""

    growth: Growth
    grower: Grower
    log: Log

    def choose(self, wanted: int, origin: Volume, sharers: int, room: Room) -> int:
        """Return the bytes that something may be extended by, of those that it wants."""
        reserve = growth_policy.reserved(self.growth.reserve, origin.vg_free)
        return growth_policy.allowed(wanted, room.extent, room.free, reserve, sharers)

    def shortage(self, origin: Volume, room: Room) -> str:
        """Say why it could not be extended."""
        reserve = human(growth_policy.reserved(self.growth.reserve, origin.vg_free))
        where = f" on {', '.join(origin.vg_disks)}" if origin.vg_chosen else ""
        return f"{origin.vg} has {human(room.free)} free{where} and is to keep {reserve} (snapshot.reserve)"


class MonitoredSnapshot:
    """A snapshot of ours."""

    must_end = False

    def __init__(self, snapshot: Snapshot, uuid: str, sharers: int, means: MonitorMeans) -> None:
        self._uuid = uuid
        self.not_before = 0.0
        self.story = SnapshotStatistics()
        self._snapshot = snapshot
        self._sharers = sharers
        self._means = means
        self._warned = False
        self._whole = False
        self._begun, self._lost = time.monotonic(), 0.0
        self._marks = list(MARKS)
        self._count, self._written = self._writes()
        self._written_last = self._written
        self._curve = Curve()

    def _writes(self) -> tuple[int, int]:
        """Return how many requests have been written to the origin so far, and their bytes."""
        try:
            number = os.stat(f"/dev/mapper/{dm_name(self._snapshot.origin.vg, self._snapshot.origin.name)}").st_rdev
        except OSError:
            return 0, 0
        return block_devices.writes(f"{os.major(number)}:{os.minor(number)}")

    def statistics(self) -> SnapshotStatistics:
        """Return how it has fared until now."""
        self.look(time.monotonic())
        curve = self._curve.with_last(self.story.course.last) if self.story.course else ()
        count, written = self._writes()
        so_far = max(0, count - self._count), max(0, written - self._written)
        return replace(self.story, count=so_far[0], written=so_far[1], curve=curve)

    def look(self, now: float) -> str:
        """Look; return why the command must end, or nothing."""
        fill = device_mapper.fill(self._snapshot.dm_name, self._uuid)
        if fill.problem:
            self._note_loss(now)
            return f"the snapshot of {self._snapshot.origin.full_name} is lost"
        if self._snapshot.extents:
            look = Sample(now, fill.used, fill.total)
            course = self.story.course.then(look) if self.story.course else FillHistory.begun(look)
            self.story = replace(self.story, course=course)
            self._curve.add(look)
            self._written_last = self._writes()[1]
            self._show(course)
        return ""

    def _note_loss(self, now: float) -> None:
        """Take note of what has been written since the last look, or since the snapshot was made.

        The write that was too much is counted when it has ended, which may be some seconds later.
        """
        if not self._snapshot.extents:
            return
        if not self.story.course:
            self.story = replace(self.story, course=FillHistory.begun(Sample(self._begun, 0, self._snapshot.size)))
        assert self.story.course
        if not self._lost:
            self._lost = now
        if now - self._lost <= WRITES_END:
            seconds = self._lost - self.story.course.last.time
            self.story = replace(self.story, rest=Rest(seconds, self._writes()[1] - self._written_last))

    def growth(self) -> Steps[None] | None:
        """Return what extends it, if that is to be done now."""
        if not self.story.course or self._whole or self._lost:
            return None
        measured = self._snapshot.measured and not self.story.grown
        wanted = growth_policy.wanted(self.story.course, self._snapshot.limit, self._snapshot.chunk, measured=measured)
        if wanted and not self._means.growth.snapshots:
            self._stuck("growing is switched off (snapshot.grow)")
            return None
        return self._grow(wanted) if wanted else None

    def courses(self) -> list[FillHistory]:
        """Return how it has filled so far."""
        return [self.story.course] if self.story.course and not self._lost else []

    def _grow(self, wanted: int) -> Steps[None]:
        snapshot, origin, log = self._snapshot, self._snapshot.origin, self._means.log
        self.story = replace(self.story, stuck="it filled up before lvextend finished")
        devices = (dm_name(origin.vg, origin.name), snapshot.dm_name)
        target = Target(snapshot.full_name, origin.vg_uuid, devices, reserved=origin.vg_reserved, disks=origin.vg_disks)
        room, more = yield from self._means.grower.grow(
            target, lambda room: self._means.choose(wanted, origin, self._sharers, room)
        )
        if not more:
            self._stuck(self._means.shortage(origin, room))
            return
        self.not_before = 0.0
        total, course = device_mapper.fill(snapshot.dm_name, self._uuid).total, self.story.course
        if not total or not course:
            return
        self._whole = total <= room.size  # LVM gives no more than can ever be used
        self.story = replace(self.story, grown=total - course.first.total, stuck="")
        sizes = f"from {human(room.size)} to {human(total)}"
        used = f"{human(course.last.used)} were used, at {growth_policy.pace(course.speed())}"
        if not self._whole:
            log.info(f"{origin.full_name}: snapshot grown {sizes}; {used}", volume=origin.full_name, size=total)

    def _stuck(self, why: str) -> None:
        self.story = replace(self.story, stuck=why)
        course = self.story.course
        if course and not self._warned:
            self._warned = True
            used = f"{human(course.last.used)} of {human(course.last.total)}"
            name = self._snapshot.origin.full_name
            message = f"{name}: the snapshot has used {used} and cannot grow: {why}; {growth_policy.until_full(course)}"
            self._means.log.warning(message)

    def _show(self, course: FillHistory) -> None:
        if self._marks and course.last.part >= self._marks[0]:
            self._marks = [mark for mark in self._marks if mark > course.last.part]
            used = f"{human(course.last.used)} of {human(course.last.total)} snapshot space used"
            self._means.log.progress(f"{self._snapshot.origin.full_name}: {used}; {growth_policy.until_full(course)}")


class MonitoredPool:
    """The data or the metadata of a thin pool that holds snapshots of ours."""

    must_end = True

    def __init__(self, origin: Volume, what: Literal["data", "metadata"], means: MonitorMeans) -> None:
        self.not_before = 0.0
        self._origin = origin
        self._what = what
        self._means = means
        self._course: FillHistory | None = None
        self._curve = Curve()
        self._warned = False

    def statistics(self) -> PoolStatistics:
        """Return how it filled."""
        return PoolStatistics(self._name, self._what, self._curve.with_last(self._course.last) if self._course else ())

    @property
    def _name(self) -> str:
        return f"{self._origin.vg}/{self._origin.pool}"

    def look(self, now: float) -> str:
        """Look; return why the command must end, or nothing."""
        fill = device_mapper.pool_fill(self._device)
        if fill.problem:
            return f"the thin pool {self._name} cannot be written: {fill.problem}"
        used, total = fill.data if self._what == "data" else fill.metadata
        look = Sample(now, used, total)
        self._course = self._course.then(look) if self._course else FillHistory.begun(look)
        self._curve.add(look)
        if growth_policy.pool_is_full(self._course, may_grow=self._means.growth.pools and not self._warned):
            return f"{self._state()}; its volumes would not be writable any more"
        if self._course.last.part >= growth_policy.POOL_WARNED and not self._means.growth.pools:
            self._warn(f"{self._state()}; the backup will be ended before it is full")
        return ""

    def growth(self) -> Steps[None] | None:
        """Return what extends it, if that is to be done now."""
        wanted = self._course is not None and growth_policy.pool_must_grow(self._course)
        return self._grow() if wanted and self._means.growth.pools else None

    def courses(self) -> list[FillHistory]:
        """Return how it has filled so far."""
        return [self._course] if self._course else []

    @property
    def _device(self) -> str:
        return f"{dm_name(self._origin.vg, self._origin.pool)}-tpool"

    def _state(self) -> str:
        assert self._course
        used = f"has used {100 * self._course.last.part:.1f} % of its {self._what}"
        return f"the thin pool {self._name} {used}; {growth_policy.until_full(self._course)}"

    def _grow(self) -> Steps[None]:
        of_metadata = self._what == "metadata"
        option = "--poolmetadatasize" if of_metadata else "--size"
        target = Target(self._name, self._origin.vg_uuid, (self._device,), option, self._origin.vg_reserved)

        def choose(room: Room) -> int:
            wanted = (room.metadata if of_metadata else room.size) // 5
            return self._means.choose(wanted, self._origin, 1, room)

        room, more = yield from self._means.grower.grow(target, choose)
        if more:
            self.not_before = 0.0
            self._means.log.info(f"thin pool {self._name}: {self._what} grown by {human(more)}", pool=self._name)
        else:
            self._warn(f"{self._state()}; it cannot grow: {self._means.shortage(self._origin, room)}")

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            self._means.log.warning(text)
