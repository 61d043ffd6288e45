"""What is to be done about a snapshot that fills while the command runs: nothing, grow it, or end the command. Pure.

A snapshot is to grow *before* it is full: when a quarter of its space is left, or when at its present speed it would
be full in half a minute. It then gets half as much again, what it needs for five minutes at that speed, or the floor of
`sizing`, whichever is most; never more than can ever be used, and never what the group is to keep in reserve. A thin
pool that fills ends the backup instead, unless it may grow: its volumes belong to the server.
"""

from __future__ import annotations

from collections.abc import Sequence

from borg_lvm.config.size import Size
from borg_lvm.planning.snapshot_size import FASTEST, FLOOR, human
from borg_lvm.planning.space.usage_estimate import LVM_CHUNK
from borg_lvm.records import dataclass, field

SHORTEST, LONGEST = 0.1, 1.0
"""Seconds between two looks: a tenth of the time that is left, within these limits."""
RECENT, REMEMBERED = 3.0, 30.0
"""Seconds over which the speed is taken: the higher of both counts."""
BURST = 10.0
"""Seconds over which a burst is spread before a thin pool counts as filling fast."""
HORIZON = 30.0
"""Seconds before it would be full in which a snapshot is to grow."""
ROOM_LEFT = 0.25
CHUNKS_LEFT = 16
"""A snapshot is to grow when a quarter of its space is left, or so many chunks."""
AHEAD = 300.0
POOL_WARNED, POOL_GROWN, POOL_FULL = 0.80, 0.90, 0.97
"""Parts of a thin pool's data or metadata at which one is warned, it grows if it may, and the command is ended."""
POOL_SECONDS = 20.0
"""Seconds before a pool would be full in which the command is ended: it takes some to end, and to remove snapshots."""


@dataclass(frozen=True)
class Sample:
    """One look: when (seconds, of any clock), and how much of how much is used (bytes, or blocks of a pool)."""

    time: float
    used: int
    total: int

    @property
    def part(self) -> float:
        """The part that is used, 0 to 1."""
        return self.used / self.total if self.total else 0.0


@dataclass(frozen=True)
class FillHistory:
    """How a snapshot, or a part of a pool, has filled: its first look and the latest ones, oldest first."""

    first: Sample
    latest: tuple[Sample, ...]

    @classmethod
    def begun(cls, look: Sample) -> FillHistory:
        """Return the course of which this is the first look."""
        return cls(look, (look,))

    def then(self, look: Sample) -> FillHistory:
        """Return the course with one more look; what is older than is remembered goes, but for one."""
        kept = [old for old in self.latest if look.time - old.time <= REMEMBERED] or [self.last]
        return FillHistory(self.first, (*kept, look))

    @property
    def last(self) -> Sample:
        """The latest look."""
        return self.latest[-1]

    @property
    def seconds(self) -> float:
        """How long it has been watched."""
        return self.last.time - self.first.time

    def speed(self) -> float:
        """Return how fast it fills, per second: over the last seconds or all that is remembered, whichever is more."""
        return max(_speed(self.latest, RECENT), _speed(self.latest, REMEMBERED))

    def left(self) -> float:
        """Return in how many seconds it will be full at this speed; infinity if it does not fill."""
        return _left(self.last, self.speed())

    def steady_left(self) -> float:
        """Return the same at the speed over all that is remembered, in which a burst is spread over some seconds."""
        return _left(self.last, _speed(self.latest, REMEMBERED, BURST))


@dataclass(frozen=True)
class Rest:
    """What came between the last look at a snapshot and its loss: `seconds` at most, bytes written to the volume."""

    seconds: float
    written: int


@dataclass(frozen=True)
class SnapshotStatistics:
    """How a snapshot fared: how it filled (None for a thin one), its growth in bytes, what held that up.

    `written` are the bytes that were written to the volume meanwhile, in `count` requests. `curve` are some looks, the
    first and the last among them. `rest` is what came at its loss, if that was seen.
    """

    course: FillHistory | None = None
    grown: int = 0
    stuck: str = ""
    written: int = 0
    curve: tuple[Sample, ...] = ()
    rest: Rest | None = None
    count: int = 0


@dataclass(frozen=True)
class PoolStatistics:
    """How the data or the metadata (`what`) of a thin pool (`vg/lv`) filled, in the pool's blocks."""

    name: str
    what: str
    curve: tuple[Sample, ...]


@dataclass
class Curve:
    """Some of the looks at a snapshot, spread over the time: at most `most`, however long the command runs."""

    most: int = 60
    looks: list[Sample] = field(default_factory=list)
    every: float = 0.0

    def add(self, look: Sample) -> None:
        """Take note of a look, unless one was just before; of several alike the first and the last are enough.

        When there are too many, every second one goes.
        """
        alike = [(old.used, old.total) == (look.used, look.total) for old in self.looks[-2:]]
        if alike == [True, True]:
            self.looks[-1] = look
            return
        if self.looks and look.time - self.looks[-1].time < self.every:
            return
        self.looks.append(look)
        if len(self.looks) >= self.most:
            self.every = 2 * (self.looks[-1].time - self.looks[0].time) / len(self.looks)
            del self.looks[1::2]

    def with_last(self, look: Sample) -> tuple[Sample, ...]:
        """Return them, the last one too."""
        return (*self.looks, look) if self.looks and look.time > self.looks[-1].time else tuple(self.looks)


def _speed(looks: Sequence[Sample], window: float, least: float = 0.001) -> float:
    *earlier, last = looks
    since = next((old for old in earlier if last.time - old.time <= window), (*earlier, last)[-2 if earlier else -1])
    return max(0.0, (last.used - since.used) / max(least, last.time - since.time))


def _left(look: Sample, speed: float) -> float:
    return (look.total - look.used) / speed if speed > 0 else float("inf")


def pause(snapshots: Sequence[FillHistory], pools: Sequence[FillHistory]) -> float:
    """Return the seconds until the next look: the faster one fills, and the less room a snapshot has, the sooner.

    The fastest burst must not have filled more than half of the room until then.
    """
    soon = [course.left() / 10 for course in (*snapshots, *pools)]
    soon += [(course.last.total - course.last.used) / (2 * FASTEST) for course in snapshots]
    return max(SHORTEST, min([LONGEST, *soon]))


def wanted(course: FillHistory, most: int, chunk: int = LVM_CHUNK, *, measured: bool = False) -> int:
    """Return by how many bytes a thick snapshot is to grow now, 0 for not at all; `most` is all that it can use.

    It is filled in pieces of `chunk` bytes.
    `measured`: its size comes of what the last runs have used, so that no burst is a surprise before that is reached.
    """
    look = course.last
    room = look.total - look.used
    soon = course.left() <= HORIZON and not measured
    if look.total >= most or (room > max(look.total * ROOM_LEFT, chunk * CHUNKS_LEFT) and not soon):
        return 0
    return min(most - look.total, max(look.total // 2, int(course.speed() * AHEAD), FLOOR))


def reserved(reserve: Size, free: int) -> int:
    """Return the bytes that a group is to keep, from the free space that it had when the run began."""
    return free * reserve.amount // 100 if reserve.basis == "free" else reserve.amount


def allowed(bytes_wanted: int, extent: int, free: int, reserve: int, sharers: int) -> int:
    """Return by how many bytes, in whole extents, it may grow: with several in the group, by half of what there is."""
    spare = max(0, free - reserve) // extent
    share = spare if sharers < 2 else -(-spare // 2)
    return min(-(-bytes_wanted // extent), share) * extent


def pool_must_grow(course: FillHistory) -> bool:
    """Whether a pool that may grow is to do so now."""
    return course.last.part >= POOL_GROWN or course.steady_left() <= 2 * POOL_SECONDS


def pool_is_full(course: FillHistory, *, may_grow: bool) -> bool:
    """Whether the command must end now, so that the pool's own volumes can go on writing."""
    return course.last.part >= POOL_FULL or (not may_grow and course.steady_left() <= POOL_SECONDS)


def until_full(course: FillHistory) -> str:
    """Say when it will be full at this speed."""
    seconds = course.left()
    if seconds == float("inf"):
        return "it is not filling now"
    return f"at this speed it is full in {duration(seconds)}"


def duration(seconds: float) -> str:
    """Return a time for a person: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def pace(speed: float) -> str:
    """Return a speed for a person."""
    return f"{human(speed)}/s"
