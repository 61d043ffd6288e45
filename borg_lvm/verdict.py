"""Why a backup is not to be trusted, in words that help whoever is woken by them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from borg_lvm.dm import Fill
from borg_lvm.plan import Copy
from borg_lvm.sizing import human
from borg_lvm.watching import Course, Story, duration, pace

HOUR = 3600.0
VIEWS = "/run/borg-lvm/view"
"""Where the views of `borg-lvm begin` stand."""


@dataclass(frozen=True)
class Distrust:
    """The reasons, and what to do so that it does not happen again."""

    reasons: tuple[str, ...]
    remedy: str


def distrust(
    copies: Sequence[Copy], fills: Sequence[Fill], stories: Sequence[Story], vanished: Sequence[str], over: str
) -> Distrust | None:
    """Return why what the command saved is not to be trusted; None if it is.

    `fills` and `stories` belong to `copies`; `over` says why we have ended the command, if we have. Without stories
    nobody has watched.
    """
    told = stories or (Story(),) * len(copies)
    lost = [copy for copy, fill in zip(copies, fills, strict=True) if fill.problem]
    if lost:
        seen = zip(copies, fills, told, strict=True)
        lines = (line for copy, fill, story in seen if fill.problem for line in _lost(copy, fill, story))
        return Distrust(tuple(lines), _more_room(lost, told[copies.index(lost[0])]))
    if vanished:
        gone = tuple(_gone(path) for path in vanished)
        stood = vanished[0].startswith(f"{VIEWS}/")
        return Distrust(gone, "find out who did" if stood else "name the folder above as a source")
    if over:
        return Distrust((over,), "make room in the thin pool (lvextend, fstrim), or let it grow (snapshot.grow_pool)")
    return None


def _lost(copy: Copy, fill: Fill, story: Story) -> Iterator[str]:
    name, course = copy.origin.full_name, story.course
    if not course:
        room = f", it had room for {human(copy.size)} of changes" if copy.extents else ""
        yield f"the snapshot of {name} was lost: {fill.problem}{room}"
        return
    look, grown = course.last, f" ({human(course.first.total)} at first)" if story.grown else ""
    yield (
        f"the snapshot of {name} was lost {duration(course.seconds)} after the command began: {_what(fill)}; it had "
        f"room for {human(look.total)}{grown} of changes"
    )
    coming = f", and {pace(course.speed())} were coming" if course.speed() else ": the rest came at once"
    yield f"{human(look.used)} of changes were seen in it last{coming}"
    yield f"it would have had to be larger than {human(look.total)}{_an_hour(course)}"
    if story.stuck:
        yield f"it could not grow: {story.stuck}"


def _what(fill: Fill) -> str:
    dropped = any(f"'{word}'" in fill.problem for word in ("Invalid", "Overflow"))
    return "it was full (or its disk failed) and the kernel has dropped it" if dropped else fill.problem


def _an_hour(course: Course) -> str:
    speed = course.speed()
    return f"; at that speed an hour's backup takes {human(speed * HOUR)}" if speed else ""


def _more_room(lost: Sequence[Copy], story: Story) -> str:
    copy = lost[0]
    if not copy.extents:
        return f"look at the thin pool: lvs -a {copy.origin.vg}"
    size = story.course.last.total if story.course else copy.size
    grow = "let it grow (snapshot.grow), or " if "snapshot.grow" in story.stuck else ""
    return (
        f"{grow}give the snapshot more room, say --snapshot-size {_twice(size)}, for which {copy.origin.vg} needs free "
        "space (vgs, vgextend); or run at a quieter hour"
    )


def _twice(size: int) -> str:
    mib = max(1, 2 * size >> 20)
    return f"{-(-mib // 1024)}G" if mib >= 10 * 1024 else f"{mib}M"


def _gone(path: str) -> str:
    if path.startswith(f"{VIEWS}/"):
        return f"{path} was unmounted by somebody else while the view stood: what was read there later was nothing"
    return f"{path} was replaced or moved on the live system, which took the snapshot away from it: it was read live"
