"""What the last drills have shown, as Prometheus' textfile collector reads it. Pure.

They are in the file of the last run's metrics, which each run writes anew: so both put them at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from borg_lvm.reporting.drills.certificate import DrillCertificate, last_good
from borg_lvm.reporting.prometheus import Sample, family

PREFIX = "borg_lvm_drill_"
LAST_GOOD = f"{PREFIX}last_good_timestamp_seconds"


def appended(text: str, drills: Sequence[DrillCertificate]) -> str:
    """Return the metrics of a run with those of the drills, the oldest first, in the place of older ones.

    Raises: LookupError, TypeError, ValueError for a certificate that is damaged.
    """
    kept = [line for line in text.splitlines(keepends=True) if not _is_ours(line)]
    return "".join([*kept, *(family(*row) for row in _families(drills))])


def _is_ours(line: str) -> bool:
    return line.startswith((PREFIX, f"# HELP {PREFIX}", f"# TYPE {PREFIX}"))


def _families(drills: Sequence[DrillCertificate]) -> Iterator[tuple[str, str, Sequence[Sample]]]:
    good = [({"application": name}, end) for name, end in sorted(last_good(drills).items())]
    yield LAST_GOOD, "When a drill of an application was good last.", good
    latest = {application["name"]: application for drill in drills for application in drill["applications"]}
    judged = [({"application": name}, float(result["verdict"] == "good")) for name, result in sorted(latest.items())]
    yield f"{PREFIX}good", "Whether the last drill of it was good.", judged
    ready = [
        ({"application": name}, float(result["ready_seconds"]))
        for name, result in sorted(latest.items())
        if result["ready_seconds"] is not None
    ]
    yield f"{PREFIX}ready_seconds", "How long it took to restore and to start it in its last drill.", ready
