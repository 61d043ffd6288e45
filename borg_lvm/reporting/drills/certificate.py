"""What a drill has shown, as one object for machines: the certificate of a drill. Pure.

Its form is `drill.schema.json`, which is installed with the program; docs/certificate.md explains it. It names the
archive and the paths that were restored, and no argument of a command, because those may hold secrets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from borg_lvm.plugins.backup_command import Result
from borg_lvm.reporting.drills.result import DrilledApplication, DrillResult, SandboxLimits

VERSION = 1
DrillCertificate = dict[str, Any]
WARNINGS = (0, 76, 77)
"""Statuses of a drill that found nothing wrong: something may be left, or something was not judged."""
UNTIL_READY = ("restore", "start")
"""The parts of a drill that one would wait for after a loss."""


def build(drill: DrillResult) -> DrillCertificate:
    """Return the certificate of a drill. Times are Unix time, durations seconds, sizes bytes."""
    return {
        "version": VERSION,
        "drill": drill.drill,
        "host": drill.host,
        "begin": round(drill.begin, 3),
        "end": round(drill.end, 3),
        "result": result(drill),
        "status": drill.status,
        "error": {"message": drill.message, "details": list(drill.details)} if drill.message else None,
        "run": drill.run or None,
        "program": drill.program or None,
        "archive": drill.archive or None,
        "instant": drill.instant,
        "scratch": drill.scratch or None,
        "limits": _limits(drill.limits) if drill.limits else None,
        "applications": [_application(application) for application in drill.applications],
        "left_out": list(drill.left_out),
    }


def _limits(limits: SandboxLimits) -> dict[str, Any]:
    return {"memory": limits.memory, "processors": limits.processors, "why": limits.why or None}


def _application(application: DrilledApplication) -> dict[str, Any]:
    ready = sum(phase.seconds for phase in application.phases if phase.name in UNTIL_READY)
    return {
        "name": application.name,
        "plugin": application.plugin,
        "version": application.version or None,
        "verdict": application.verdict,
        "paths": list(application.paths),
        "files": application.files,
        "bytes": application.bytes,
        "ready_seconds": round(ready, 3) if application.verdict == "good" else None,
        "phases": [{"name": phase.name, "seconds": round(phase.seconds, 3)} for phase in application.phases],
        "right": list(application.right),
        "wrong": list(application.wrong),
        "why": application.why or None,
    }


def result(drill: DrillResult) -> Result:
    """Say in a word how a drill has ended. One with an application that is bad is a failure, whatever its status."""
    verdicts = {application.verdict for application in drill.applications}
    if "bad" in verdicts or not verdicts or drill.status not in WARNINGS:
        return "failure"
    return "success" if drill.status == 0 and verdicts == {"good"} else "warning"


def last_bad(certificates: Iterable[DrillCertificate]) -> dict[str, str]:
    """Return the id of the latest drill of each application that it was bad in; `certificates` are the oldest first.

    One that was judged good since is left out. Raises: as `last_good`.
    """
    bad: dict[str, str] = {}
    for certificate in certificates:
        for application in certificate["applications"]:
            if application["verdict"] == "bad":
                bad[str(application["name"])] = str(certificate["drill"])
            elif application["verdict"] == "good":
                bad.pop(str(application["name"]), None)
    return bad


def last_good(certificates: Iterable[DrillCertificate]) -> dict[str, float]:
    """Return when each application has last passed a drill (Unix time), by its name; those that never did are left out.

    Raises: LookupError, TypeError, ValueError for a certificate that is damaged.
    """
    passed: dict[str, float] = {}
    for certificate in certificates:
        for application in certificate["applications"]:
            if application["verdict"] == "good":
                name = str(application["name"])
                passed[name] = max(float(certificate["end"]), passed.get(name, 0.0))
    return passed
