"""The certificate of a run as one self-contained HTML page, with drawings in SVG and without any script. Pure.

Raises: as in `reporting/run_text.py`, for a certificate that is damaged.
"""

from __future__ import annotations

from itertools import takewhile

from borg_lvm.reporting import proof
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.reporting.pages.layout import document, section, table
from borg_lvm.reporting.pages.svg import bars, fill, safe
from borg_lvm.reporting.run_text import (
    Interval,
    application_cells,
    brief,
    complaint,
    curves,
    instants,
    moment,
    phases,
    result_text,
    volume_cells,
    windows,
)


def page(certificate: Certificate) -> str:
    """Return the page."""
    title = f"borg-lvm: run {certificate['run']} on {certificate['host']}"
    parts = [
        f'<p><span class="result {safe(certificate["result"])}">{safe(result_text(certificate))}</span></p>',
        table(("", ""), _facts(certificate), head_shown=False),
        "<h2>Phases</h2>",
        _phases(certificate),
        *_before_the_command(certificate),
        *_fills(certificate),
        *section("Volumes", ("volume", "file system", "suspended for", "space used", "grown"), [
            (volume["volume"], volume["filesystem"] + (" on LUKS" if volume["luks"] else ""), *volume_cells(volume))
            for volume in certificate["volumes"]
        ]),
        *section("Applications", ("name", "level", "consistency", "quiesced for", "remark"), [
            (app["name"], app["level"], *application_cells(app, certificate)) for app in certificate["applications"]
        ]),
        *section("Read from snapshots", ("path", "volume"), [
            (path["path"], path["volume"]) for path in certificate["frozen"]
        ]),
        *section("Read from the live file system", ("path", "reason"), [
            (path["path"], path["because"]) for path in certificate["live"]
        ]),
    ]  # fmt: skip
    return document(title, parts)


def _facts(certificate: Certificate) -> list[tuple[str, str]]:
    command, released = certificate["command"], certificate["released"]
    ran = "did not run to its end"
    if command["status"] is not None:
        ran = f"ended with status {command['status']} after {brief(command['seconds'])}"
    facts = [
        ("began", moment(certificate["begin"])),
        ("took", brief(certificate["end"] - certificate["begin"])),
        ("command", f"{command['program']} {command['action'] or ''} {ran}"),
        ("archive", certificate["archive"] or ""),
        ("proof", proof.line(proof.from_data(data)) if (data := certificate.get("proof")) else ""),
        ("instant", "; ".join(instants(certificate))),
        ("error", "; ".join(complaint(certificate))),
        ("what it saved", "; ".join(certificate["marked"])),
        ("snapshots", {"released": "all removed"}.get(released["state"], f"{released['state']}: {_left(certificate)}")),
    ]
    return [(name, text) for name, text in facts if text]


def _left(certificate: Certificate) -> str:
    released = certificate["released"]
    return ", ".join(released["left"] or released["snapshots"])


def _phases(certificate: Certificate) -> str:
    """Return the phases of the whole run, with the windows in which volumes were suspended."""
    rows = [(phase, "command" if phase.name == "command" else "phase") for phase in phases(certificate)]
    rows += [(Interval("suspended", window.begin, window.seconds), "still") for window in windows(certificate)]
    return bars("phases of the run", rows)


def _before_the_command(certificate: Certificate) -> list[str]:
    """Return the same up to the command, where a window can be seen, with each volume in it."""
    early = list(takewhile(lambda phase: phase.name not in ("command", "release"), phases(certificate)))
    if not certificate["instants"]:
        return []
    rows = [(phase, "phase") for phase in early]
    still = {volume["volume"]: volume["still_ms"] for volume in certificate["volumes"]}
    for instant, window in zip(certificate["instants"], windows(certificate), strict=True):
        rows.append((Interval("suspended", window.begin, window.seconds), "still"))
        rows += [
            (Interval(name, window.begin, still[name] / 1000), "still")
            for name in instant["volumes"]
            if still.get(name) is not None
        ]
    return [
        "<h2>Up to the command, and how long each volume was suspended at most</h2>",
        bars("up to the command", rows),
    ]


def _fills(certificate: Certificate) -> list[str]:
    drawings = [
        part
        for name, curve, unit in curves(certificate)
        for part in (f"<h3>{safe(name[0].upper() + name[1:])}</h3>", fill(name, curve, unit))
    ]
    return ["<h2>How full snapshots and pools were while the command ran</h2>", *drawings] if drawings else []
