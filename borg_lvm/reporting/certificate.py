"""How consistent a run's backup is, as one object for machines: the certificate. Pure.

Its form is `certificate.schema.json`, which is installed with the program; docs/certificate.md explains it. Every run
that had its volumes for itself gets one, whatever became of it. It names the program and no argument, because those
may hold secrets; the name of an archive only if the command line says it without a placeholder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from borg_lvm.linux.device_mapper import Fill
from borg_lvm.planning.space.growth_policy import Sample, SnapshotStatistics
from borg_lvm.records import dataclass
from borg_lvm.reporting import proof

if TYPE_CHECKING:
    from borg_lvm.planning.application_data import PlannedApplication
    from borg_lvm.planning.plan import Snapshot
    from borg_lvm.plugins.backup_command import Reading, Result
    from borg_lvm.reporting.outcome import ApplicationResult, Outcome

VERSION = 1
Certificate = dict[str, Any]


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: where, when (Unix time), with which exit status; and what it said, if that was an error."""

    host: str
    end: float
    status: int
    message: str = ""
    details: tuple[str, ...] = ()


def build(outcome: Outcome, reading: Reading, ending: RunEnd) -> Certificate:
    """Return the certificate of a run. Times are Unix time, durations seconds or (`_ms`) milliseconds, sizes bytes."""
    plan, result = outcome.plan, judged(outcome, reading, ending)
    saved = outcome.complete and result in ("success", "warning")
    return {
        "version": VERSION,
        "run": plan.run_id,
        "host": ending.host,
        "begin": round(outcome.since, 3),
        "end": round(ending.end, 3),
        "result": result,
        "status": ending.status,
        "error": {"message": ending.message, "details": list(ending.details)} if ending.message else None,
        "command": _command(outcome, reading),
        "archive": (reading.archive or None) if saved and not reading.problems else None,
        "marked": list(outcome.marked),
        "proof": proof.as_data(outcome.proof) if outcome.proof else None,
        "consistency": plan.consistency,
        "instants": [
            {"volumes": list(instant.names), "time": round(instant.begin, 6), "uncertainty_ms": _ms(instant.seconds)}
            for instant in outcome.instants
        ],
        "volumes": list(_volumes(outcome)),
        "pools": [{"pool": pool.name, "what": pool.what, "curve": _curve(pool.curve)} for pool in outcome.pools],
        "frozen": [
            {"path": mount.target, "volume": plan.snapshots[mount.snapshot].origin.full_name, "because": mount.because}
            for mount in plan.view_mounts
        ],
        "live": [
            *({"path": live.path, "because": live.reason} for live in plan.live_paths),
            *({"path": path, "because": f"declared: {why}"} for path, why in plan.live_sources),
        ],
        "applications": [_application(result, outcome, saved=saved) for result in outcome.applications],
        "phases": [
            {"name": phase.name, "begin": round(phase.begin, 3), "seconds": round(phase.seconds, 3)}
            for phase in outcome.phases
        ],
        "released": _released(outcome),
    }


def _command(outcome: Outcome, reading: Reading) -> dict[str, Any]:
    return {
        "program": reading.program,
        "action": reading.action or None,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 3),
    }


def _released(outcome: Outcome) -> dict[str, Any]:
    return {
        "state": "kept" if outcome.kept else "incomplete" if outcome.leftovers else "released",
        "snapshots": [snapshot.full_name for snapshot in outcome.plan.snapshots],
        "left": list(outcome.leftovers),
    }


def judged(outcome: Outcome, reading: Reading, ending: RunEnd) -> Result:
    """Return the result of a run, in a word."""
    if outcome.distrust():
        return "failure" if outcome.sound else "tainted"
    if ending.status == 0:
        return "warning" if outcome.not_needed() else "success"
    if not outcome.complete:
        return "failure"
    if ending.message:  # an error of ours, after a command that succeeded
        return "warning" if outcome.status == 0 else "failure"
    return "warning" if outcome.status in reading.warnings else "failure"


def _volumes(outcome: Outcome) -> Iterator[dict[str, Any]]:
    snapshots = outcome.plan.snapshots
    stories = outcome.stories or (SnapshotStatistics(),) * len(snapshots)
    pairs = (pair for instant in outcome.instants for pair in zip(instant.names, instant.still, strict=True))
    still = {name: _ms(seconds) for name, seconds in pairs}
    transactions = {name: number for one in outcome.instants for name, number in one.transactions.items()}
    for number, (snapshot, story) in enumerate(zip(snapshots, stories, strict=True)):
        fill = outcome.fills[number] if outcome.complete else Fill(0, 0)
        yield {
            "volume": snapshot.origin.full_name,
            "uuid": snapshot.origin.uuid,
            "filesystem": snapshot.fstype,
            "luks": snapshot.crypt is not None,
            "snapshot": snapshot.kind,
            "held_by": snapshot.hold,
            "transaction": transactions.get(snapshot.origin.full_name),
            "still_ms": still.get(snapshot.origin.full_name),
            "lost": fill.problem or None,
            "space": _space(snapshot, story, fill),
            "curve": _curve(story.curve),
        }


def _curve(looks: Sequence[Sample]) -> list[list[float]]:
    return [[round(look.time - looks[0].time, 1), look.used, look.total] for look in looks]


def _space(snapshot: Snapshot, story: SnapshotStatistics, fill: Fill) -> dict[str, Any] | None:
    """Return how the space of a thick snapshot was used; a thin one has none. `fill` is the very last look."""
    if not snapshot.extents:
        return None
    course = story.course
    return {
        "planned": snapshot.size,
        "total": course.last.total if course else None,
        "used": max(course.last.used, fill.used) if course else None,
        "grown": story.grown,
        "could_not_grow": story.stuck or None,
        "written": story.written,
    }


def _application(application: ApplicationResult, outcome: Outcome, *, saved: bool) -> dict[str, Any]:
    known = next((covered for covered in outcome.plan.applications if covered.name == application.name), None)
    parts = known.kept if known else ()
    return {
        "name": application.name,
        "plugin": known.plugin if known else None,
        "version": (known.version if known else "") or None,
        "level": application.level,
        "consistency": _consistency(application, known, outcome) if saved else "none",
        "still_ms": _ms(application.seconds),
        "why": application.out or application.wrong or None,
        "verified": application.verified or None,
        "remark": application.remark or None,
        "data": [{"path": kept.path, "real": kept.real, "what": kept.what} for kept in parts if not kept.missing],
        "not_saved": [kept.path for kept in parts if kept.missing],
    }


def _consistency(application: ApplicationResult, known: PlannedApplication | None, outcome: Outcome) -> str:
    """Say what a restore of an application's files can count on.

    One that was not quiesced, or not in a way that orders its files, is crash-consistent if all that its probe named
    shows one instant; where its data lies is not known of one that never answered. Nothing is promised of a snapshot
    that failed verification.
    """
    if application.wrong:
        return "none"
    if not application.out and not application.recovers:
        return "application"
    whole = known is not None and not any(kept.missing for kept in known.kept)
    one_instant = outcome.plan.consistency == "instant" or (application.still and not application.out)
    return "crash-consistent" if whole and one_instant else "none"


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 3)
