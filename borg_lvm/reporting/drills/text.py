"""The certificate of a drill for people, in the terminal: what was restored, how long that took, what was found. Pure.

Raises: LookupError, TypeError, ValueError and AttributeError for a certificate that is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from borg_lvm.planning.snapshot_size import human
from borg_lvm.reporting.drills.certificate import DrillCertificate
from borg_lvm.reporting.run_text import Interval, bar, brief, moment
from borg_lvm.reporting.terminal import columns, shown

HEAD = ("DRILL", "BEGAN", "RESULT", "ARCHIVE", "GOOD", "READY")
"""`READY` is how long the longest restore and start took. What is usual fits a terminal of 80 columns."""
NONE = "-"
RESULTS = {"success": "success", "warning": "nothing is wrong, but see below", "failure": "FAILURE"}


def lines(certificate: DrillCertificate) -> Iterator[str]:
    """Yield the report."""
    yield shown(f"Drill {certificate['drill']} on {certificate['host']}: {result(certificate)}")
    yield from (shown(f"  {line}") for line in facts(certificate))
    yield from _applications(certificate["applications"])
    yield from (shown(f"  not drilled: {line}") for line in certificate["left_out"])
    spans = phases(certificate)
    if spans:
        whole = spans[-1].begin + spans[-1].seconds or 1.0
        width = max(len(span.name) for span in spans)
        yield ""
        yield "How long each part took:"
        yield from (bar(span, whole, "█", width) for span in spans)


def result(certificate: DrillCertificate) -> str:
    """Say in a few words how a drill has ended."""
    return f"{RESULTS[certificate['result']]} (status {certificate['status']})"


def facts(certificate: DrillCertificate) -> Iterator[str]:
    """Yield what is known of a drill as a whole: when, the archive, the scratch space, the error."""
    yield f"began at {moment(certificate['begin'])} and took {brief(certificate['end'] - certificate['begin'])}"
    if certificate["archive"]:
        run = f" (run {certificate['run']})" if certificate["run"] else ""
        yield f"from the archive {certificate['archive']} of {certificate['program']}{run}"
    else:
        yield "no archive was restored"
    if certificate["instant"] is not None:
        yield f"which shows the instant {moment(certificate['instant'])}"
    if certificate["scratch"]:
        yield f"restored to {certificate['scratch']}"
    if found := certificate.get("limits"):  # certificates of earlier versions have none
        yield limits(found)
    if error := certificate["error"]:
        yield from [error["message"], *error["details"]]


def limits(found: dict[str, Any]) -> str:
    """Say what the sandbox could get at most."""
    if found["memory"] is None:
        return f"judged without limits of memory and processors: {found['why']}"
    number = found["processors"]
    processors = f" and {number} processor{'s' * (number != 1)}" if number else ""
    return f"judged with {human(found['memory'])} of memory{processors} at most"


def application_cells(application: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return what an application is, its verdict, how much was restored, and how long it took until it was ready."""
    ready = NONE if application["ready_seconds"] is None else brief(application["ready_seconds"])
    return (
        of_plugin(application),
        application["verdict"],
        human(application["bytes"]) if application["bytes"] else NONE,
        ready,
    )


def of_plugin(application: dict[str, Any]) -> str:
    """Return the plugin of an application and the version that it had; that of a container's engine has its name."""
    plugin, version = application["plugin"], application["version"] or ""
    return version if version.startswith(f"{plugin} ") else f"{plugin} {version}".rstrip()


def remarks(application: dict[str, Any]) -> list[str]:
    """Return what is wrong with an application, why it was not judged, and what was judged and is right."""
    wrong = [f"wrong: {text}" for text in application["wrong"]]
    return [
        *wrong,
        *([f"not judged: {application['why']}"] if application["why"] else []),
        *(f"right: {text}" for text in application["right"]),
    ]


def _applications(applications: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not applications:
        return
    yield ""
    yield "Applications, and how long it took to restore and to start each:"
    rows = [(application["name"], *application_cells(application)) for application in applications]
    yield from columns([("NAME", "PROGRAM", "VERDICT", "RESTORED", "READY AFTER"), *rows])
    for application in applications:
        yield from (shown(f"  {application['name']}: {text}") for text in remarks(application))


def phases(certificate: DrillCertificate) -> list[Interval]:
    """Return the parts of each application's drill, one after the other."""
    spans: list[Interval] = []
    for application in certificate["applications"]:
        for part in application["phases"]:
            begin = spans[-1].begin + spans[-1].seconds if spans else 0.0
            spans.append(Interval(shown(f"{application['name']}: {part['name']}"), begin, float(part["seconds"])))
    return spans


def row(certificate: DrillCertificate) -> tuple[str, ...]:
    """Return the cells of a drill in the list of all."""
    applications = certificate["applications"]
    ready = [application["ready_seconds"] for application in applications if application["ready_seconds"] is not None]
    good = sum(application["verdict"] == "good" for application in applications)
    ending = certificate["result"]
    cells = (
        certificate["drill"],
        f"{datetime.fromtimestamp(certificate['begin']):%m-%d %H:%M}",
        ending if ending == "success" else f"{ending} {certificate['status']}",
        str(certificate["archive"] or NONE),
        f"{good} of {len(applications)}",
        brief(max(ready)) if ready else NONE,
    )
    return tuple(shown(cell) for cell in cells)


def table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield a line for each drill."""
    yield from (text.removeprefix("  ") for text in columns([HEAD, *rows]))
