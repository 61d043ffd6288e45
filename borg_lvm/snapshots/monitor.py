"""The watcher: looks at every snapshot while the command runs, has them grown, and says when the command must end.

A look is one ioctl a snapshot, no process. What is to be done is decided in `planning/growth_policy.py`. What is
gathered here goes into the run's certificate: `Watcher.stories`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from borg_lvm.config.size import Size
from borg_lvm.errors import BorgLvmError
from borg_lvm.linux import device_mapper
from borg_lvm.linux.subprocesses import Steps
from borg_lvm.log import Log
from borg_lvm.machine import block_devices
from borg_lvm.machine.lvm import Volume, dm_name
from borg_lvm.planning import growth_policy
from borg_lvm.planning.growth_policy import Curve, FillHistory, PoolStatistics, Rest, Sample, SnapshotStatistics
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.planning.snapshot_size import human
from borg_lvm.snapshots.extend import Grower, Room, Target

AGAIN = 10.0
"""Seconds after which growing is tried again when it was not possible or failed."""
TICK = 0.05
MARKS = (0.25, 0.5, 0.75, 0.9)
"""Parts of a snapshot's space that are told on a terminal when they are passed."""


WRITES_END = 5.0
"""Seconds after a loss within which writes that began before it have ended."""
CLOCK_STEP = 0.5
"""Seconds by which the time of day and that of the machine may differ without the clock having been set."""


@dataclass(frozen=True)
class Moment:
    """A moment by both clocks: Unix time, and the machine's own that nobody sets."""

    time: float
    monotonic: float

    @classmethod
    def now(cls) -> Moment:
        """Return this moment."""
        return cls(time.time(), time.monotonic())

    def agrees(self, other: Moment) -> bool:
        """Whether as much time has gone by on both clocks."""
        return abs((other.time - self.time) - (other.monotonic - self.monotonic)) < CLOCK_STEP


@dataclass(frozen=True)
class Growth:
    """What the configuration says of growing: whether snapshots and thin pools may, and what a group is to keep."""

    snapshots: bool
    pools: bool
    reserve: Size


@dataclass(frozen=True)
class _Means:
    """What everything that is watched needs."""

    growth: Growth
    grower: Grower
    log: Log

    def choose(self, wanted: int, origin: Volume, sharers: int, room: Room) -> int:
        reserve = growth_policy.reserved(self.growth.reserve, origin.vg_free)
        return growth_policy.allowed(wanted, room.extent, room.free, reserve, sharers)

    def shortage(self, origin: Volume, room: Room) -> str:
        reserve = human(growth_policy.reserved(self.growth.reserve, origin.vg_free))
        return f"{origin.vg} has {human(room.free)} free and is to keep {reserve} (snapshot.reserve)"


class _Watched(Protocol):
    """Something that fills."""

    not_before: float
    must_end: bool
    """Whether the command must end at once when this says why: then live volumes are at stake."""

    def look(self, now: float) -> str:
        """Look; return why the command must end, or nothing."""

    def growth(self) -> Steps[None] | None:
        """Return what makes it grow, if that is to be done now."""

    def courses(self) -> list[FillHistory]:
        """Return how it has filled so far."""


class _Snapshot:
    """A snapshot of ours."""

    must_end = False

    def __init__(self, copy: Snapshot, uuid: str, sharers: int, means: _Means) -> None:
        self._uuid = uuid
        self.not_before = 0.0
        self.story = SnapshotStatistics()
        self._copy = copy
        self._sharers = sharers
        self._means = means
        self._warned = False
        self._whole = False
        self._begun, self._lost = time.monotonic(), 0.0
        self._marks = list(MARKS)
        self._written = self._written_last = self._written_so_far()
        self._curve = Curve()

    def _written_so_far(self) -> int:
        try:
            number = os.stat(f"/dev/mapper/{dm_name(self._copy.origin.vg, self._copy.origin.name)}").st_rdev
        except OSError:
            return 0
        return block_devices.written(f"{os.major(number)}:{os.minor(number)}")

    def told(self) -> SnapshotStatistics:
        """Return what has become of it, until now."""
        self.look(time.monotonic())
        curve = self._curve.with_last(self.story.course.last) if self.story.course else ()
        return replace(self.story, written=max(0, self._written_so_far() - self._written), curve=curve)

    def look(self, now: float) -> str:
        fill = device_mapper.fill(self._copy.dm_name, self._uuid)
        if fill.problem:
            self._note_loss(now)
            return f"the snapshot of {self._copy.origin.full_name} is lost"
        if self._copy.extents:
            look = Sample(now, fill.used, fill.total)
            course = self.story.course.then(look) if self.story.course else FillHistory.begun(look)
            self.story = replace(self.story, course=course)
            self._curve.add(look)
            self._written_last = self._written_so_far()
            self._show(course)
        return ""

    def _note_loss(self, now: float) -> None:
        """Take note of what has been written since the last look, or since the snapshot was made.

        The write that was too much is counted when it has ended, which may be some seconds later.
        """
        if not self._copy.extents:
            return
        if not self.story.course:
            self.story = replace(self.story, course=FillHistory.begun(Sample(self._begun, 0, self._copy.size)))
        assert self.story.course
        if not self._lost:
            self._lost = now
        if now - self._lost <= WRITES_END:
            seconds = self._lost - self.story.course.last.time
            self.story = replace(self.story, rest=Rest(seconds, self._written_so_far() - self._written_last))

    def growth(self) -> Steps[None] | None:
        if not self.story.course or self._whole or self._lost:
            return None
        measured = self._copy.measured and not self.story.grown
        wanted = growth_policy.wanted(self.story.course, self._copy.limit, measured=measured)
        if wanted and not self._means.growth.snapshots:
            self._stuck("growing is switched off (snapshot.grow)")
            return None
        return self._grow(wanted) if wanted else None

    def courses(self) -> list[FillHistory]:
        return [self.story.course] if self.story.course and not self._lost else []

    def _grow(self, wanted: int) -> Steps[None]:
        copy, origin, log = self._copy, self._copy.origin, self._means.log
        self.story = replace(self.story, stuck="it filled up before lvextend finished")
        devices = (dm_name(origin.vg, origin.name), copy.dm_name)
        target = Target(copy.full_name, origin.vg_uuid, devices, reserved=origin.vg_reserved, disks=origin.vg_disks)
        room, more = yield from self._means.grower.grow(
            target, lambda room: self._means.choose(wanted, origin, self._sharers, room)
        )
        if not more:
            self._stuck(self._means.shortage(origin, room))
            return
        self.not_before = 0.0
        total, course = device_mapper.fill(copy.dm_name, self._uuid).total, self.story.course
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
            name = self._copy.origin.full_name
            told = f"{name}: the snapshot has used {used} and cannot grow: {why}; {growth_policy.until_full(course)}"
            self._means.log.warning(told)

    def _show(self, course: FillHistory) -> None:
        if self._marks and course.last.part >= self._marks[0]:
            self._marks = [mark for mark in self._marks if mark > course.last.part]
            used = f"{human(course.last.used)} of {human(course.last.total)} snapshot space used"
            self._means.log.progress(f"{self._copy.origin.full_name}: {used}; {growth_policy.until_full(course)}")


class _PoolPart:
    """The data or the metadata of a thin pool that holds snapshots of ours."""

    must_end = True

    def __init__(self, origin: Volume, what: Literal["data", "metadata"], means: _Means) -> None:
        self.not_before = 0.0
        self._origin = origin
        self._what = what
        self._means = means
        self._course: FillHistory | None = None
        self._curve = Curve()
        self._warned = False

    def told(self) -> PoolStatistics:
        """Return how it filled."""
        return PoolStatistics(self._name, self._what, self._curve.with_last(self._course.last) if self._course else ())

    @property
    def _name(self) -> str:
        return f"{self._origin.vg}/{self._origin.pool}"

    def look(self, now: float) -> str:
        fill = device_mapper.pool_fill(self._device)
        if fill.problem:
            return f"the thin pool {self._name} cannot be written: {fill.problem}"
        used, total = fill.data if self._what == "data" else fill.metadata
        look = Sample(now, used, total)
        self._course = self._course.then(look) if self._course else FillHistory.begun(look)
        self._curve.add(look)
        if growth_policy.pool_is_full(self._course, may_grow=self._means.growth.pools and not self._warned):
            return f"{self._told()}; its volumes would not be writable any more"
        if self._course.last.part >= growth_policy.POOL_WARNED and not self._means.growth.pools:
            self._warn(f"{self._told()}; the backup will be ended before it is full")
        return ""

    def growth(self) -> Steps[None] | None:
        wanted = self._course is not None and growth_policy.pool_must_grow(self._course)
        return self._grow() if wanted and self._means.growth.pools else None

    def courses(self) -> list[FillHistory]:
        return [self._course] if self._course else []

    @property
    def _device(self) -> str:
        return f"{dm_name(self._origin.vg, self._origin.pool)}-tpool"

    def _told(self) -> str:
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
            self._warn(f"{self._told()}; it cannot grow: {self._means.shortage(self._origin, room)}")

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            self._means.log.warning(text)


class Watcher:
    """Watches the snapshots of one run. `over`: why the command must end, empty while it may go on.

    `is_read` tells whether a process reads a snapshot now, of a command that does it once: while it says no, the loss
    of one does not end the command.
    `sound_until` is when all snapshots were seen to be right last (Unix time).
    """

    def __init__(
        self,
        plan: Plan,
        ids: Mapping[str, str],
        growth: Growth,
        grower: Grower,
        log: Log,
        is_read: Callable[[], bool] | None = None,
    ) -> None:
        means = _Means(growth, grower, log)
        groups = [copy.origin.vg_uuid for copy in plan.copies if copy.extents]
        self._snapshots = [
            _Snapshot(copy, ids.get(copy.full_name, ""), groups.count(copy.origin.vg_uuid), means)
            for copy in plan.copies
        ]
        pools = {(copy.origin.vg, copy.origin.pool): copy.origin for copy in plan.copies if not copy.extents}
        self._parts = [_PoolPart(origin, what, means) for origin in pools.values() for what in ("data", "metadata")]
        self._watched: Sequence[_Watched] = [*self._snapshots, *self._parts]
        self._growing: Steps[None] | None = None
        self._log = log
        self._told = grower.told
        self._is_read = is_read
        self._spared = False
        self._right = Moment.now()
        self.over = ""

    def look(self) -> float:
        """Look at everything, have grow what must, and return in how many seconds to look again."""
        moment = Moment.now()
        found = [(why, one.must_end) for one in self._watched if (why := one.look(moment.monotonic))]
        if not found:
            self._right = moment
        elif not self.over:
            self._judge(found)
        if not self.over:
            self._grow_one(moment.monotonic)
        self._go_on()
        return growth_policy.pause(_courses(self._snapshots), _courses(self._parts))

    def _judge(self, found: Sequence[tuple[str, bool]]) -> None:
        """End the command, unless all that is wrong is that a snapshot is lost that nobody reads."""
        must_end = [why for why, must in found if must]
        if must_end or not self._is_read or self._is_read():
            self.over = (must_end or [why for why, _ in found])[0]
            self._log.warning(f"{self.over}: the command is ended")
        elif not self._spared:
            self._spared = True
            self._log.warning(f"{found[0][0]}: no process reads it, so the command goes on until one does")

    @property
    def sound_until(self) -> float:
        """When all snapshots were right for the last time that is known: Unix time.

        0 if the clock has been set since: then times that programs have written down prove nothing.
        """
        return self._right.time if self._right.agrees(Moment.now()) else 0.0

    def stories(self) -> tuple[SnapshotStatistics, ...]:
        """Return what has become of each snapshot, in the order of the plan."""
        return tuple(one.told() for one in self._snapshots)

    def pools(self) -> tuple[PoolStatistics, ...]:
        """Return how each thin pool filled, its data and its metadata."""
        return tuple(one.told() for one in self._parts)

    def finish(self) -> None:
        """Wait for what is under way."""
        while self._growing:
            self._go_on()
            time.sleep(TICK)

    def _grow_one(self, now: float) -> None:
        """Begin to grow the one that would be full first, if none is growing: LVM does one at a time anyway."""
        if self._growing:
            return
        ready = [one for one in self._watched if one.not_before <= now and one.courses()]
        for one in sorted(ready, key=lambda one: one.courses()[0].left()):
            growing = one.growth()
            if growing:
                one.not_before = now + AGAIN
                self._growing = growing
                return

    def _go_on(self) -> None:
        """Let what grows do its next step."""
        if self._growing is None:
            return
        try:
            next(self._growing)
            return
        except StopIteration:
            pass
        except (BorgLvmError, OSError) as error:
            details = getattr(error, "details", ())
            self._log.warning("\n".join([f"a snapshot or its pool could not be grown: {error}", *details]))
        self._growing = None
        while self._told:
            self._log.warning(f"while a snapshot grew: {self._told.pop(0)}")


def _courses(watched: Sequence[_Watched]) -> list[FillHistory]:
    return [course for one in watched for course in one.courses()]


@contextmanager
def watching_over(
    plan: Plan, ids: Mapping[str, str], growth: Growth, grower: Grower, log: Log, is_read: Callable[[], bool] | None
) -> Iterator[Watcher]:
    """Give a watcher; in the end what it has begun is finished. `ids` are the snapshots' dm uuids, by `vg/lv`."""
    watcher = Watcher(plan, ids, growth, grower, log, is_read)
    try:
        yield watcher
    finally:
        watcher.finish()
