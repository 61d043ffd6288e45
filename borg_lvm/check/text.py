"""What `borg-lvm check` says, for a person and for machines. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from borg_lvm.check import size_findings
from borg_lvm.check.finding import Finding, Level
from borg_lvm.check.judge import Seen
from borg_lvm.planning.plan import Plan
from borg_lvm.reporting.plan_text import as_data
from borg_lvm.reporting.terminal import shown

MARKS: Mapping[Level, str] = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


def works(findings: Sequence[Finding]) -> bool:
    """Whether nothing was found that would make the backup fail."""
    return not any(finding.level == "error" for finding in findings)


def table(seen: Seen, findings: Sequence[Finding], *, quiet: bool = False) -> Iterator[str]:
    """Yield the findings as a person reads them; `quiet`: only what is wrong, nothing if all is well."""
    width = max((len(finding.about) for finding in findings), default=0)
    lines = [finding for finding in findings if not quiet or finding.level in ("warning", "error")]
    for finding in lines:
        yield shown(f"{MARKS[finding.level]:8} {finding.about:{width}}  {finding.message}")
        for detail in finding.details:
            yield shown(f"{'':8} {'':{width}}  {detail}")
        if finding.remedy:
            yield shown(f"{'':8} {'':{width}}  -> {finding.remedy}")
    if lines:
        yield ""
        yield shown(_conclusion(seen, findings))


def data(seen: Seen, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings for machines."""
    return {
        "works": works(findings),
        "conclusion": _conclusion(seen, findings),
        "findings": [
            {
                "level": finding.level,
                "about": finding.about,
                "message": finding.message,
                "details": list(finding.details),
                "remedy": finding.remedy or None,
            }
            for finding in findings
        ],
        "plan": as_data(seen.plan) if seen.plan else None,
    }


def _conclusion(seen: Seen, findings: Sequence[Finding]) -> str:
    wrong = sum(finding.level == "error" for finding in findings)
    if wrong:
        return f"A backup would not work: {wrong} error{'s' * (wrong != 1)}."
    warnings = sum(finding.level == "warning" for finding in findings)
    but = f", with {warnings} warning{'s' * (warnings != 1)}" if warnings else ""
    if seen.plan is None:
        return f"A backup could work{but}. Its sources were not checked: borg-lvm check -- COMMAND …"
    if again := size_findings.lost_again(seen.plan, seen.past):
        why = f"which has lost the snapshot of {', '.join(again)}: the room for it is still too small"
        return f"It may fail again as the last run did, {why}. Else{but}: {_worth(seen.plan)}."
    untried = "The command itself was not tried: whether its repository can be reached, say."
    return f"The backup would work{but}: {_worth(seen.plan)}. {untried}"


def _worth(plan: Plan) -> str:
    names = ", ".join(snapshot.origin.full_name for snapshot in plan.snapshots)
    many = "at one instant" if plan.consistency == "instant" else "each volume at an instant of its own"
    parts = [f"every file of its sources on {names} {many}"]
    parts += [f"{application.name} at level {application.level}" for application in plan.applications]
    if not plan.applications:
        parts.append("applications as a power cut would have left them")
    live = [path for path, _ in plan.live_sources]
    return "; ".join([*parts, *([f"read live: {', '.join(live)}"] if live else [])])
