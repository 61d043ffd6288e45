"""Whether the space of each snapshot is enough, by what past runs have needed. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from borg_lvm.check.finding import Finding
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.planning.snapshot_size import human
from borg_lvm.planning.space import usage_estimate


def findings(plan: Plan, past: Mapping[str, Sequence[usage_estimate.Once]], grows: bool) -> Iterator[Finding]:
    """Yield what the space of each snapshot of a plan is, by what `past` runs of its volume have needed."""
    claimed: defaultdict[str, int] = defaultdict(int)
    for copy in plan.copies:
        claimed[copy.origin.vg] += copy.size
    for copy in plan.copies:
        if copy.extents:
            free = copy.origin.vg_free - claimed[copy.origin.vg]
            yield from _size(copy, past.get(copy.origin.uuid, ()), free if grows else 0)


def _size(copy: Snapshot, runs: Sequence[usage_estimate.Once], spare: int) -> Iterator[Finding]:
    """Judge the size of a snapshot by what past runs have needed; it may grow into `spare` bytes."""
    about = copy.origin.full_name
    expected = usage_estimate.expected(runs, 0.0)
    if expected is None:
        yield Finding("note", about, f"first run: {human(copy.size)} snapshot ({copy.why_size}), measured from then on")
        return
    need = expected.why.format(human(expected.used))
    reach = min(copy.limit, copy.size + max(0, spare))
    remedy = f"snapshot.size: auto, or --snapshot-size {human(expected.size).replace(' ', '')}; or vgextend"
    if copy.size >= expected.used:
        yield Finding("ok", about, f"{human(copy.size)} for its snapshot; {need}")
    elif reach >= expected.used:
        message = (
            f"{human(copy.size)} for its snapshot is less than {need}; it would have to grow while the backup runs"
        )
        yield Finding("note", about, message, remedy)
    else:
        message = f"{human(copy.size)} for its snapshot are too few, and it cannot grow enough: {need}"
        yield Finding("warning", about, message, remedy)
    if runs[-1].lost:
        yield Finding("warning", about, "the last run has lost its snapshot", remedy)
