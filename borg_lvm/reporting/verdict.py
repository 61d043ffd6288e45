"""Why a backup is invalid, in words that help an administrator who is woken by them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from borg_lvm.machine.btrfs_subvolumes import DIRECTORY
from borg_lvm.machine.mounts import ZFS
from borg_lvm.planning.snapshot_size import SLOWEST, human, most
from borg_lvm.planning.space.growth_policy import SHORTEST, FillHistory, SnapshotStatistics, duration
from borg_lvm.records import dataclass

if TYPE_CHECKING:
    from borg_lvm.linux.device_mapper import Fill
    from borg_lvm.planning.plan import Snapshot
    from borg_lvm.planning.space import more_room

SECTOR = 512
SLACK, SLACK_CHUNKS = 1 << 20, 4
"""Bytes, and chunks, of a snapshot that its own tables may take between two looks."""
VIEWS = "/run/borg-lvm/view"
"""Where the views of `borg-lvm begin` stand."""


READ_AGAIN = "delete what this run saved, check the repository, and run it again"


@dataclass(frozen=True)
class Distrust:
    """The reasons, and what to do so that it does not happen again."""

    reasons: tuple[str, ...]
    remedy: str


def distrust(
    fates: Sequence[Fate], vanished: Sequence[str], appeared: Sequence[str] = (), over: str = ""
) -> Distrust | None:
    """Return why what the command saved is invalid; None if it is not. `over` says why we have ended it, if we have.

    `fates` are those of all snapshots of the run.
    """
    lost = [fate for fate in fates if fate.fill.problem]
    if lost:
        lines = (line for fate in lost for line in fate.lines())
        return Distrust(tuple(lines), _remedy(lost, fates))
    if vanished:
        gone = tuple(_gone(path) for path in vanished)
        stood = vanished[0].startswith(f"{VIEWS}/")
        return Distrust(gone, "find out who did" if stood else "name the directory above as a source")
    if appeared:
        came = tuple(
            f"{path} did not exist when the run began, and appeared meanwhile: it was live" for path in appeared
        )
        return Distrust(came, "run it again: it exists now, and will be frozen")
    if over:
        return Distrust((over,), "make room in the thin pool (lvextend, fstrim), or let it grow (snapshot.grow_pool)")
    return None


@dataclass(frozen=True)
class Fate:
    """A snapshot, what the kernel says of it in the end, and how it had filled until then."""

    snapshot: Snapshot
    fill: Fill
    story: SnapshotStatistics

    def lines(self) -> Iterator[str]:
        """Yield what is known of how it was lost."""
        name, course, rest = self.snapshot.origin.full_name, self.story.course, self.story.rest
        if not course:
            yield f"the snapshot of {name} was lost: {self.fill.problem}"
            return
        when = f"lost {duration(course.seconds + (rest.seconds if rest else 0))} after the command began"
        look, grown = course.last, f" ({human(course.first.total)} at first)" if self.story.grown else ""
        if self.was_full():
            yield f"the snapshot of {name} was {when}: it was full, with room for {human(look.total)}{grown} of changes"
        else:
            yield f"the snapshot of {name} was {when}: {self._how()}"
        yield f"at the last look {human(look.used)} of {human(look.total)} were used{self._since()}"
        if self.story.stuck:
            yield f"it could not grow: {self.story.stuck}"

    def _how(self) -> str:
        if self._dropped():
            return f"the kernel has dropped it, though it was not full: its disk failed ({self.fill.problem})"
        return self.fill.problem

    def _dropped(self) -> bool:
        return any(f"'{word}'" in self.fill.problem for word in ("Invalid", "Overflow"))

    def was_full(self) -> bool:
        """Whether it can have been full: each sector that is written may take a whole chunk."""
        course, rest = self.story.course, self.story.rest
        if not course or not self._dropped():
            return False
        chunk = self.snapshot.chunk
        slack = max(SLACK, SLACK_CHUNKS * chunk)
        return not rest or course.last.used + chunk // SECTOR * rest.written + slack >= course.last.total

    def _since(self) -> str:
        rest = self.story.rest
        return f"; within {rest.seconds:.1f} s {human(rest.written)} more were written to the volume" if rest else ""

    def remedy(self) -> str:
        """Say what to do about a loss for which its size is not to blame, as far as was seen."""
        snapshot = self.snapshot
        if snapshot.subvolume:
            return f"find out who deletes subvolumes in /{DIRECTORY} of the top level of {snapshot.subvolume.device}"
        if snapshot.fstype == ZFS:
            return f"find out who destroys snapshots: zpool history -il {snapshot.origin.pool}"
        if not snapshot.extents:
            return f"look at the thin pool: lvs -a {snapshot.origin.vg}"
        return f"look for its snapshot and its disk: lvs -a {snapshot.origin.vg}, and dmesg"

    def wanted(self) -> more_room.NextSize:
        """Return the space that it is to have next time: of one that was not full, what it had."""
        from borg_lvm.planning.space import more_room  # only after a loss

        course = self.story.course
        if course and self.fill.problem and self.was_full():
            return more_room.NextSize(self.snapshot, self._enough(course))
        return more_room.NextSize(
            self.snapshot, max(self.snapshot.size, course.last.total if course else 0), lost=False
        )

    def _enough(self, course: FillHistory) -> int:
        """Return the bytes that would have done: what was used, and what LVM needs to follow what came then.

        At least twice what it had, and at most what can ever be used.
        """
        look, rest = course.last, self.story.rest
        came = max(rest.written, look.total - look.used) / max(rest.seconds, SHORTEST) if rest else course.speed()
        return min(
            most(self.snapshot.origin, self.snapshot.chunk), max(2 * look.total, look.used + int(came * SLOWEST))
        )


def _remedy(lost: Sequence[Fate], fates: Sequence[Fate]) -> str:
    """Say what to do so that it does not happen again, as far as was seen: all of it at once."""
    from borg_lvm.planning.space import more_room

    full = [fate for fate in lost if fate.snapshot.extents and fate.was_full()]
    remedies = [fate.remedy() for fate in lost if fate not in full]
    if full:
        grow = "let it grow (snapshot.grow), or " if any("snapshot.grow" in fate.story.stuck for fate in full) else ""
        room = more_room.advice([fate.wanted() for fate in fates if fate.snapshot.extents])
        these = "snapshot" if len(full) == 1 else "snapshots"
        remedies.append(f"{grow}give the {these} more room {room}; or run at a quieter hour")
    return "; ".join(dict.fromkeys(remedies))


def _gone(path: str) -> str:
    if path.startswith(f"{VIEWS}/"):
        return f"{path} was unmounted by somebody else while the view was mounted: later reads found nothing there"
    return f"{path} was replaced or moved on the live system, which took the snapshot away from it: it was read live"
