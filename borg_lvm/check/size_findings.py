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
    thick = [snapshot for snapshot in plan.snapshots if snapshot.extents]
    for snapshot in thick:
        claimed[snapshot.origin.vg] += snapshot.size
    remedy = _remedy(thick, past)
    for shortage in more_room.shortages(thick) if not remedy else ():
        yield Finding("note", f"group {shortage.group}", f"it {shortage.message}", shortage.remedy)
    for snapshot in thick:
        runs = past.get(snapshot.origin.uuid, ())
        if lost := _lost(runs):
            yield _after_loss(snapshot, lost, runs, remedy)
        elif runs and runs[-1].lost:
            look = f"look for its disk: lvs -a {snapshot.origin.vg}, and dmesg"
            yield Finding(
                "warning", snapshot.origin.full_name, "the last run has lost its snapshot, which was not full", look
            )
        else:
            yield _size(snapshot, runs, snapshot.origin.vg_free - claimed[snapshot.origin.vg] if grows else 0, remedy)


def lost_again(plan: Plan, past: Past) -> list[str]:
    """Return the volumes whose snapshot the last run has lost and which have no more room now than that lacked."""
    return [
        snapshot.origin.full_name
        for snapshot in plan.snapshots
        if snapshot.extents
        and (runs := past.get(snapshot.origin.uuid))
        and _lost(runs[-1:])
        and snapshot.size < runs[-1].enough
    ]


def _lost(runs: Sequence[Once]) -> Once | None:
    """Return the run whose snapshot was full and lost, if no other has needed more; the worst."""
    latest = runs[-RUNS:]
    worst = max(
        (run for run in latest if run.lost and run.enough > run.space), key=lambda run: run.enough, default=None
    )
    return worst if worst and worst.needed >= max(run.needed for run in latest) else None


def _needed(snapshot: Snapshot, runs: Sequence[Once]) -> int:
    """Return how many bytes a snapshot is to have that has less than past runs have needed; 0 if it has enough."""
    lost, expected = _lost(runs), usage_estimate.expected(runs, 0.0)
    if lost:
        return lost.enough if snapshot.size < lost.enough else 0
    return expected.size if expected and snapshot.size < expected.used else 0


def _remedy(snapshots: Sequence[Snapshot], past: Past) -> str:
    """Say what gives room to all that have too little: one entry, for together they need what the group has."""
    needed = [(snapshot, _needed(snapshot, past.get(snapshot.origin.uuid, ()))) for snapshot in snapshots]
    sizes = [more_room.NextSize(snapshot, size or snapshot.size, lost=bool(size)) for snapshot, size in needed]
    return more_room.advice(sizes) if any(size.lost for size in sizes) else ""


def _after_loss(snapshot: Snapshot, lost: Once, runs: Sequence[Once], remedy: str) -> Finding:
    """Judge the size of a snapshot by one that was lost."""
    about, latest = snapshot.origin.full_name, runs[-RUNS:]
    which = "the last run" if latest[-1] is lost else f"one of the last {len(latest)} runs"
    has = f"{human(snapshot.size)} for its snapshot; {which} has lost one of {human(lost.space)}"
    if snapshot.size >= lost.enough:
        return Finding("ok", about, has)
    written = f" ({human(lost.written)} were written by the end)" if lost.written else ""
    return Finding("warning", about, f"{has}, which was too small{written}", remedy)


def _size(snapshot: Snapshot, runs: Sequence[Once], spare: int, remedy: str) -> Finding:
    """Judge the size of a snapshot by what past runs have needed; it may grow into `spare` bytes."""
    about = snapshot.origin.full_name
    expected = usage_estimate.expected(runs, 0.0)
    if expected is None:
        return Finding(
            "note", about, f"first run: {human(snapshot.size)} snapshot ({snapshot.why_size}), measured from then on"
        )
    used = human(expected.used)
    which = "the last run" if len(runs) == 1 else f"the fullest of the last {len(runs[-RUNS:])} runs"
    has = f"{human(snapshot.size)} for its snapshot"
    if snapshot.size >= expected.used:
        return Finding("ok", about, f"{has}; {which} used {used}")
    if min(snapshot.limit, snapshot.size + max(0, spare)) >= expected.used:
        return Finding(
            "note", about, f"{has}; {which} used {used}: it would have to grow while the backup runs", remedy
        )
    return Finding("warning", about, f"{has} is too small, and it cannot grow enough: {which} used {used}", remedy)
