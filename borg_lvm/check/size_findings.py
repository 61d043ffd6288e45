"""Whether the space of each snapshot is enough, by what past runs have needed. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from borg_lvm.check.finding import Finding
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.planning.snapshot_size import human
from borg_lvm.planning.space import more_room, usage_estimate
from borg_lvm.planning.space.usage_estimate import RUNS, Once

Past = Mapping[str, Sequence[Once]]


def findings(plan: Plan, past: Past, grows: bool) -> Iterator[Finding]:
    """Yield what the space of each snapshot of a plan is, by what `past` runs of its volume have needed."""
    claimed: defaultdict[str, int] = defaultdict(int)
    thick = [copy for copy in plan.copies if copy.extents]
    for copy in thick:
        claimed[copy.origin.vg] += copy.size
    remedy = _remedy(thick, past)
    for copy in thick:
        runs = past.get(copy.origin.uuid, ())
        if lost := _lost(runs):
            yield _after_loss(copy, lost, runs, remedy)
        elif runs and runs[-1].lost:
            look = f"look for its disk: lvs -a {copy.origin.vg}, and dmesg"
            yield Finding(
                "warning", copy.origin.full_name, "the last run has lost its snapshot, which was not full", look
            )
        else:
            yield _size(copy, runs, copy.origin.vg_free - claimed[copy.origin.vg] if grows else 0, remedy)


def lost_again(plan: Plan, past: Past) -> list[str]:
    """Return the volumes whose snapshot the last run has lost and which have no more room now than that lacked."""
    return [
        copy.origin.full_name
        for copy in plan.copies
        if copy.extents and (runs := past.get(copy.origin.uuid)) and _lost(runs[-1:]) and copy.size < runs[-1].enough
    ]


def _lost(runs: Sequence[Once]) -> Once | None:
    """Return the run whose snapshot was full and lost, if no other has needed more; the worst."""
    latest = runs[-RUNS:]
    worst = max(
        (run for run in latest if run.lost and run.enough > run.space), key=lambda run: run.enough, default=None
    )
    return worst if worst and worst.needed >= max(run.needed for run in latest) else None


def _needed(copy: Snapshot, runs: Sequence[Once]) -> int:
    """Return how many bytes a snapshot is to have that has less than past runs have needed; 0 if it has enough."""
    lost, expected = _lost(runs), usage_estimate.expected(runs, 0.0)
    if lost:
        return lost.enough if copy.size < lost.enough else 0
    return expected.size if expected and copy.size < expected.used else 0


def _remedy(copies: Sequence[Snapshot], past: Past) -> str:
    """Say what gives room to all that have too little: one entry, for together they need what the group has."""
    needed = [(copy, _needed(copy, past.get(copy.origin.uuid, ()))) for copy in copies]
    sizes = [more_room.NextSize(copy, size or copy.size, lost=bool(size)) for copy, size in needed]
    return more_room.advice(sizes) if any(size.lost for size in sizes) else ""


def _after_loss(copy: Snapshot, lost: Once, runs: Sequence[Once], remedy: str) -> Finding:
    """Judge the size of a snapshot by one that was lost."""
    about, latest = copy.origin.full_name, runs[-RUNS:]
    which = "the last run" if latest[-1] is lost else f"one of the last {len(latest)} runs"
    has = f"{human(copy.size)} for its snapshot; {which} has lost one of {human(lost.space)}"
    if copy.size >= lost.enough:
        return Finding("ok", about, has)
    written = f" ({human(lost.written)} were written by the end)" if lost.written else ""
    return Finding("warning", about, f"{has}, which was too small{written}", remedy)


def _size(copy: Snapshot, runs: Sequence[Once], spare: int, remedy: str) -> Finding:
    """Judge the size of a snapshot by what past runs have needed; it may grow into `spare` bytes."""
    about = copy.origin.full_name
    expected = usage_estimate.expected(runs, 0.0)
    if expected is None:
        return Finding(
            "note", about, f"first run: {human(copy.size)} snapshot ({copy.why_size}), measured from then on"
        )
    used = human(expected.used)
    which = "the last run" if len(runs) == 1 else f"the fullest of the last {len(runs[-RUNS:])} runs"
    has = f"{human(copy.size)} for its snapshot"
    if copy.size >= expected.used:
        return Finding("ok", about, f"{has}; {which} used {used}")
    if min(copy.limit, copy.size + max(0, spare)) >= expected.used:
        return Finding(
            "note", about, f"{has}; {which} used {used}: it would have to grow while the backup runs", remedy
        )
    return Finding("warning", about, f"{has} is too small, and it cannot grow enough: {which} used {used}", remedy)
