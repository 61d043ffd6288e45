"""The watcher: looks at every snapshot while the command runs, has them grown, and says when the command must end.

A look is one ioctl a snapshot, no process. What is to be done is decided in `planning/space/growth_policy.py`. What is
gathered here goes into the run's certificate: `Watcher.stories`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from borg_lvm.errors import BorgLvmError
from borg_lvm.planning.space import growth_policy
from borg_lvm.plugins.backup_command import Span
from borg_lvm.records import dataclass

if TYPE_CHECKING:
    from borg_lvm.linux.device_mapper import Fill
    from borg_lvm.linux.subprocesses import Steps
    from borg_lvm.log import Log
    from borg_lvm.planning.plan import Snapshot
    from borg_lvm.planning.space.growth_policy import FillHistory, PoolStatistics, SnapshotStatistics
    from borg_lvm.snapshots.provider import Monitored, Monitors

AGAIN = 10.0
"""Seconds after which growing is tried again when it was not possible or failed."""
TICK = 0.05


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


class TimesShown:
    """The times of day that the clock shows, as it is read now and then: a new stretch wherever it was set."""

    def __init__(self, began: Moment) -> None:
        self._last = began
        self._stretches = [(began.time, began.time)]

    @property
    def count(self) -> int:
        """How many stretches there are: one more than the times that the clock was set."""
        return len(self._stretches)

    def note(self, now: Moment) -> None:
        """Go on to this moment."""
        begin, _ = self._stretches[-1]
        if now.agrees(self._last):
            self._stretches[-1] = begin, now.time
        else:  # at some time since the last look: until then it may have shown the one, since then the other
            lasted = now.monotonic - self._last.monotonic
            self._stretches[-1] = begin, self._last.time + lasted
            self._stretches.append((now.time - lasted, now.time))
        self._last = now

    def span(self) -> Span:
        """Return them."""
        (begin, end), *then = self._stretches
        return Span(begin, end, tuple(then))


class Watcher:
    """Watches the snapshots of one run. `over`: why the command must end, empty while it may go on.

    `is_read` says whether a process reads a snapshot now, of a command that does it once: while it says no, the loss
    of one does not end the command. It began at `began`.
    `sound_until` is when all snapshots were seen to be right last (Unix time).
    """

    def __init__(self, monitors: Monitors, log: Log, began: Moment, is_read: Callable[[], bool] | None = None) -> None:
        self._snapshots, self._parts = monitors.snapshots, monitors.pools
        self._watched: Sequence[Monitored] = [*self._snapshots, *self._parts]
        self._growing: Steps[None] | None = None
        self._log = log
        self._is_read = is_read
        self._spared = False
        self._right = began
        self._times = TimesShown(began)
        self._set = self._times.count
        self.over = ""

    def look(self) -> float:
        """Look at everything, have grow what must, and return in how many seconds to look again."""
        moment = self._now()
        troubles = [(why, watched.must_end) for watched in self._watched if (why := watched.look(moment.monotonic))]
        if not troubles:
            self._right, self._set = moment, self._times.count
        elif not self.over:
            self._judge(troubles)
        if not self.over:
            self._grow_one(moment.monotonic)
        self._go_on()
        return growth_policy.pause(_courses(self._snapshots), _courses(self._parts))

    def _judge(self, troubles: Sequence[tuple[str, bool]]) -> None:
        """End the command, unless all that is wrong is that a snapshot is lost that nobody reads."""
        must_end = [why for why, must in troubles if must]
        if must_end or not self._is_read or self._is_read():
            self.over = (must_end or [why for why, _ in troubles])[0]
            self._log.warning(f"{self.over}: the command is ended")
        elif not self._spared:
            self._spared = True
            self._log.warning(f"{troubles[0][0]}: no process reads it, so the command goes on until one does")

    @property
    def sound_until(self) -> float:
        """When all snapshots were right for the last time that is known: Unix time.

        0 if the clock has been set since: then times that programs have written down prove nothing.
        """
        self._now()
        return self._right.time if self._set == self._times.count else 0.0

    def ran(self) -> Span:
        """Return when the command has run, which ends now."""
        self._now()
        return self._times.span()

    def _now(self) -> Moment:
        moment = Moment.now()
        self._times.note(moment)
        return moment

    def stories(self) -> tuple[SnapshotStatistics, ...]:
        """Return how each snapshot has fared, in the order of the plan."""
        return tuple(snapshot.statistics() for snapshot in self._snapshots)

    def pools(self) -> tuple[PoolStatistics, ...]:
        """Return how each thin pool filled, its data and its metadata."""
        return tuple(pool.statistics() for pool in self._parts)

    def finish(self) -> None:
        """Wait for what is under way."""
        while self._growing:
            self._go_on()
            time.sleep(TICK)

    def _grow_one(self, now: float) -> None:
        """Begin to grow the one that would be full first, if none is growing: LVM does one at a time anyway."""
        if self._growing:
            return
        ready = [watched for watched in self._watched if watched.not_before <= now and watched.courses()]
        for watched in sorted(ready, key=lambda watched: watched.courses()[0].left()):
            growing = watched.growth()
            if growing:
                watched.not_before = now + AGAIN
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


class MonitoredApart:
    """A snapshot that is apart from LVM's (`provider.MonitoredSpace`): it fills nothing, but somebody may remove it.

    `fill` looks at it. Nothing stays open between two looks.
    """

    must_end = False
    not_before = 0.0

    def __init__(self, snapshot: Snapshot, fill: Callable[[Snapshot], Fill]) -> None:
        self._snapshot = snapshot
        self._fill = fill

    def look(self, now: float) -> str:
        """Look; return why the command must end, or nothing."""
        return (
            f"the snapshot of {self._snapshot.origin.full_name} is lost" if self._fill(self._snapshot).problem else ""
        )

    def growth(self) -> Steps[None] | None:
        """Return nothing: no space is set aside for it."""
        return None

    def courses(self) -> list[FillHistory]:
        """Return nothing: it does not fill."""
        return []

    def statistics(self) -> SnapshotStatistics:
        """Return nothing: there is nothing to be counted."""
        return growth_policy.SnapshotStatistics()


def _courses(watched: Sequence[Monitored]) -> list[FillHistory]:
    return [course for monitored in watched for course in monitored.courses()]


@contextmanager
def watching_over(monitors: Monitors, log: Log, began: Moment, is_read: Callable[[], bool] | None) -> Iterator[Watcher]:
    """Give a watcher; in the end what it has begun is finished."""
    watcher = Watcher(monitors, log, began, is_read)
    try:
        yield watcher
    finally:
        watcher.finish()
