"""The certificate of a run as one self-contained HTML page, with drawings in SVG and without any script. Pure.

Raises: as in `reporting/run_text.py`, for a certificate that is damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from borg_lvm.reporting.certificate import Certificate
from borg_lvm.reporting.run_text import (
    Span,
    application_cells,
    brief,
    complaint,
    curves,
    instants,
    moment,
    phases,
    told,
    volume_cells,
    windows,
)
from borg_lvm.reporting.svg import bars, fill, safe

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #64708a; --line: #d5dae3; --paper: #fff; --phase: #5b7db1;
  --command: #3f9a6b; --still: #d1495b; --fill: #e0a030; --room: #64708a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #97a3b8; --line: #3a4354; --paper: #161b24; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } h1, h2, h3, p { overflow-wrap: anywhere; }
.result { padding: .1rem .6rem; border-radius: .3rem; color: #fff; background: var(--phase); }
.success { background: #2e7d4f; } .warning { background: #9a6a00; } .failure, .tainted { background: #b3261e; }
table { border-collapse: collapse; width: 100%; } th { color: var(--dim); font-weight: 600; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
th { white-space: nowrap; } td { overflow-wrap: anywhere; min-width: 6.5rem; }
.wide { overflow-x: auto; } svg { width: 100%; height: auto; } svg.small { display: none; }
@media (max-width: 700px) { svg.large { display: none; } svg.small { display: inline; } }
svg text { fill: var(--ink); font-size: 13px; } svg .dim { fill: var(--dim); }
svg .inside { fill: #fff; }
svg .axis { stroke: var(--line); } svg .phase { fill: var(--phase); } svg .command { fill: var(--command); }
svg .still { fill: var(--still); } svg .fill { fill: var(--fill); fill-opacity: .45; stroke: var(--fill); }
svg .room { fill: none; stroke: var(--room); stroke-dasharray: 5 4; }
""".strip()


def page(certificate: Certificate) -> str:
    """Return the page."""
    title = f"borg-lvm: run {certificate['run']} on {certificate['host']}"
    parts = [
        f"<h1>{safe(title)}</h1>",
        f'<p><span class="result {safe(certificate["result"])}">{safe(told(certificate))}</span></p>',
        _table(("", ""), _facts(certificate), head_shown=False),
        "<h2>Phases</h2>",
        _phases(certificate),
        *_before_the_command(certificate),
        *_fills(certificate),
        *_section("Volumes", ("volume", "file system", "suspended for", "space used", "grown"), [
            (one["volume"], one["filesystem"] + (" on LUKS" if one["luks"] else ""), *volume_cells(one))
            for one in certificate["volumes"]
        ]),
        *_section("Applications", ("name", "level", "consistency", "quiesced for", "remark"), [
            (one["name"], one["level"], *application_cells(one)) for one in certificate["applications"]
        ]),
        *_section("Read from snapshots", ("path", "volume"), [
            (one["path"], one["volume"]) for one in certificate["frozen"]
        ]),
        *_section("Read from the live file system", ("path", "reason"), [
            (one["path"], one["because"]) for one in certificate["live"]
        ]),
    ]  # fmt: skip
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{safe(title)}</title><style>{STYLE}</style></head><body>",
            *parts,
            "</body></html>\n",
        ]
    )


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
        ("instant", "; ".join(instants(certificate))),
        ("error", "; ".join(complaint(certificate))),
        ("what it saved", "; ".join(certificate["marked"])),
        ("snapshots", {"released": "all removed"}.get(released["state"], f"{released['state']}: {_left(certificate)}")),
    ]
    return [(name, text) for name, text in facts if text]


def _left(certificate: Certificate) -> str:
    released = certificate["released"]
    return ", ".join(released["left"] or released["snapshots"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, head_shown: bool = True) -> str:
    names = f"<tr>{''.join(f'<th>{safe(name)}</th>' for name in head)}</tr>" if head_shown else ""
    cells = "".join(f"<tr>{''.join(f'<td>{safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{names}{cells}</table></div>'


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"<h2>{safe(title)}</h2>", _table(head, rows)] if rows else []


def _phases(certificate: Certificate) -> str:
    """Return the phases of the whole run, with the windows in which volumes stood still."""
    rows = [(one, "command" if one.name == "command" else "phase") for one in phases(certificate)]
    rows += [(Span("suspended", one.begin, one.seconds), "still") for one in windows(certificate)]
    return bars("phases of the run", rows)


def _before_the_command(certificate: Certificate) -> list[str]:
    """Return the same up to the command, where a window can be seen, with each volume in it."""
    early = [one for one in phases(certificate) if one.name not in ("command", "release", "marking")]
    if not certificate["instants"]:
        return []
    rows = [(one, "phase") for one in early]
    still = {one["volume"]: one["still_ms"] for one in certificate["volumes"]}
    for instant, window in zip(certificate["instants"], windows(certificate), strict=True):
        rows.append((Span("suspended", window.begin, window.seconds), "still"))
        rows += [
            (Span(name, window.begin, still[name] / 1000), "still")
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
