"""The certificate of a drill as one self-contained HTML page, with a drawing in SVG and without any script. Pure.

Raises: as in `reporting/drills/text.py`, for a certificate that is damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from borg_lvm.reporting.drills.certificate import UNTIL_READY, DrillCertificate
from borg_lvm.reporting.drills.text import application_cells, facts, phases, remarks, result
from borg_lvm.reporting.pages.layout import document, section, table
from borg_lvm.reporting.pages.svg import bars, safe


def page(certificate: DrillCertificate) -> str:
    """Return the page."""
    applications = certificate["applications"]
    parts = [
        f'<p><span class="result {safe(certificate["result"])}">{safe(result(certificate))}</span></p>',
        table((" ",), [(line,) for line in facts(certificate)], head_shown=False),
        *section(
            "Applications, and how long it took to restore and to start each",
            ("name", "program", "verdict", "restored", "ready after"),
            [(application["name"], *application_cells(application)) for application in applications],
        ),
        *section(
            "What was judged",
            ("name", "result"),
            [(application["name"], line) for application in applications for line in remarks(application)],
        ),
        *section("Not drilled", ("application",), [(line,) for line in certificate["left_out"]]),
        *_phases(certificate),
    ]
    return document(f"borg-lvm: drill {certificate['drill']} on {certificate['host']}", parts)


def _phases(certificate: DrillCertificate) -> list[str]:
    """Return how long each part took; what one would wait for after a loss has a colour of its own."""
    kinds = [_kind(part) for application in certificate["applications"] for part in application["phases"]]
    rows = list(zip(phases(certificate), kinds, strict=True))
    return ["<h2>How long each part took</h2>", bars("parts of the drill", rows)] if rows else []


def _kind(part: Mapping[str, Any]) -> str:
    return "command" if part["name"] in UNTIL_READY else "phase"
