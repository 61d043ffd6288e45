"""What a plan will do, in words and as data: for `borg-lvm plan`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from borg_lvm.planning.application_data import PlannedApplication
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.planning.snapshot_size import human
from borg_lvm.planning.space import more_room
from borg_lvm.planning.space.chunk_size import Reckoning
from borg_lvm.reporting import proof
from borg_lvm.reporting.terminal import columns, shown


def table(plan: Plan) -> Iterator[str]:
    """Yield the plan as a person reads it."""
    yield "Snapshots, " + _consistency(plan)
    rows = [
        (
            snapshot.origin.full_name,
            f"{snapshot.fstype}{' on LUKS' if snapshot.crypt else ''}",
            snapshot.kind,
            _room(snapshot),
            snapshot.why_size,
        )
        for snapshot in plan.snapshots
    ]
    yield from columns([("VOLUME", "FILE SYSTEM", "KIND", "SPACE", "WHY"), *rows])
    yield from _chunks(plan)
    yield f"The snapshots exist {plan.lifetime or 'until the command has ended'}."
    yield ""
    yield "Read from snapshots, under the same paths:"
    yield from columns(
        [("PATH", "VOLUME", "REASON"), *((f.target, _origin(plan, f.snapshot), f.because) for f in plan.view_mounts)]
    )
    if plan.applications:
        yield ""
        yield "Applications, quiesced in this order:"
        yield from _applications(plan.applications)
    live = [(live.path, live.reason) for live in plan.live_paths] + [
        (p, f"declared: {why}") for p, why in plan.live_sources
    ]
    if live:
        yield ""
        yield "Read from the live file system:"
        yield from columns([("PATH", "REASON"), *live])
    if plan.proof:
        yield ""
        yield "Read back when the command has ended:"
        yield from (f"  {line}" for line in proof.planned_lines(plan.proof))
    for note in _notes(plan):
        yield f"Note: {shown(note)}"


def _notes(plan: Plan) -> Iterator[str]:
    yield from plan.notes
    for shortage in more_room.shortages(plan.snapshots):
        yield f"volume group {shortage.group} {shortage.message}; {shortage.remedy}"


def _chunks(plan: Plan) -> Iterator[str]:
    rows = [
        (snapshot.origin.full_name, f"{snapshot.chunk // 1024} KiB", snapshot.chunk_choice.why)
        for snapshot in plan.snapshots
        if snapshot.chunk_choice
    ]
    if rows:
        yield ""
        yield "Chunks in which they keep what is overwritten:"
        yield from columns([("VOLUME", "CHUNK", "WHY"), *rows])
        yield ""


def _applications(applications: Sequence[PlannedApplication]) -> Iterator[str]:
    rows = [
        (application.name, application.plugin, application.version, f"{application.level}: {application.does}")
        for application in applications
    ]
    yield from columns([("NAME", "PLUGIN", "VERSION", "LEVEL"), *rows])
    kept = [
        (application.name, k.path, k.what, k.volume or f"not saved: {k.missing}")
        for application in applications
        for k in application.kept
    ]
    if kept:
        yield ""
        yield "What they keep:"
        yield from columns([("NAME", "PATH", "WHAT", "VOLUME"), *kept])
    for application in applications:
        for note in application.notes:
            yield f"Note: {shown(f'{application.name}: {note}')}"


def _consistency(plan: Plan) -> str:
    if len(plan.snapshots) < 2:
        return "one instant:"
    return "one after the other (per-volume):" if plan.consistency == "per-volume" else "all of one instant:"


def _room(snapshot: Snapshot) -> str:
    return human(snapshot.size) if snapshot.extents else "-"


def _origin(plan: Plan, number: int) -> str:
    return plan.snapshots[number].origin.full_name


def as_data(plan: Plan) -> dict[str, Any]:
    """Return the plan for machines; sizes in bytes."""
    return {
        "run": plan.run_id,
        "sources": list(plan.sources),
        "consistency": plan.consistency,
        "lifetime": plan.lifetime,
        "snapshots": [_snapshot_data(snapshot) for snapshot in plan.snapshots],
        "frozen": [
            {
                "path": path.target,
                "volume": _origin(plan, path.snapshot),
                "inside": path.inside,
                "because": path.because,
            }
            for path in plan.view_mounts
        ],
        "live": [{"path": path.path, "because": path.reason} for path in plan.live_paths],
        "live_sources": [{"path": path, "declared": why} for path, why in plan.live_sources],
        "applications": [_application_data(application) for application in plan.applications],
        "proof": proof.planned_data(plan.proof),
        "notes": list(_notes(plan)),
    }


def _snapshot_data(snapshot: Snapshot) -> dict[str, Any]:
    choice = snapshot.chunk_choice
    return {
        "volume": snapshot.origin.full_name,
        "snapshot": snapshot.full_name,
        "kind": snapshot.kind,
        "size": snapshot.size or None,
        "wanted": snapshot.wanted or snapshot.size or None,
        "why": snapshot.why_size,
        "chunk": snapshot.chunk or None,
        "why_chunk": choice.why if choice else None,
        "best_chunk": choice.best or choice.size if choice else None,
        "chunk_reckoning": _rounded(choice.reckoning) if choice and choice.reckoning else None,
        "physical_volumes": list(snapshot.origin.vg_disks) if snapshot.extents else [],
        "filesystem": snapshot.fstype,
        "luks": snapshot.crypt.name if snapshot.crypt else None,
        "held_by": snapshot.hold,
        "minor": snapshot.minor,
    }


def _rounded(reckoning: Reckoning) -> dict[str, float]:
    return {name: round(number, 2) for name, number in asdict(reckoning).items()}


def _application_data(application: PlannedApplication) -> dict[str, Any]:
    return {
        "name": application.name,
        "plugin": application.plugin,
        "version": application.version,
        "level": application.level,
        "keeps": [
            {"path": k.path, "what": k.what, "volume": k.volume or None, "missing": k.missing or None}
            for k in application.kept
        ],
        "notes": list(application.notes),
    }
