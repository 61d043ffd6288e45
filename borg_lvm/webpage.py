"""The certificate of a run as one self-contained HTML page, with drawings in SVG and without any script. Pure.

Errors: as in `timeline.py`, for a certificate that is damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from borg_lvm.certificate import Certificate
from borg_lvm.timeline import (
    Span,
    Unit,
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

WIDTH, LEFT, RIGHT = 960, 150, 30
ROW, TOP, TALL = 26, 8, 130
TICKS = 5

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
th { white-space: nowrap; } td { overflow-wrap: anywhere; min-width: 5rem; }
.wide { overflow-x: auto; } svg { width: 100%; min-width: 46rem; height: auto; }
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
        f"<h1>{_safe(title)}</h1>",
        f'<p><span class="result {_safe(certificate["result"])}">{_safe(told(certificate))}</span></p>',
        _table(("", ""), _facts(certificate), head_shown=False),
        "<h2>Phases</h2>",
        phases_drawing(certificate),
        *_before_the_command(certificate),
        *_fills(certificate),
        *_section("Volumes", ("volume", "file system", "stood still", "space used", "grown"), [
            (one["volume"], one["filesystem"] + (" on LUKS" if one["luks"] else ""), *volume_cells(one))
            for one in certificate["volumes"]
        ]),
        *_section("Applications", ("name", "level", "consistency", "stood still", "remark"), [
            (one["name"], one["level"], *application_cells(one)) for one in certificate["applications"]
        ]),
        *_section("Seen frozen", ("path", "volume"), [(one["path"], one["volume"]) for one in certificate["frozen"]]),
        *_section("Left live", ("path", "because"), [(one["path"], one["because"]) for one in certificate["live"]]),
    ]  # fmt: skip
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{_safe(title)}</title><style>{STYLE}</style></head><body>",
            *parts,
            "</body></html>\n",
        ]
    )


def _safe(text: object) -> str:
    """Return text as HTML shows it; what would steer a terminal, or is no character at all, is shown escaped."""
    plain = str(text).encode("utf-8", "backslashreplace").decode()
    return escape("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in plain))


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
        ("released", {"released": "everything"}.get(released["state"], f"{released['state']}: {_left(certificate)}")),
    ]
    return [(name, text) for name, text in facts if text]


def _left(certificate: Certificate) -> str:
    released = certificate["released"]
    return ", ".join(released["left"] or released["snapshots"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, head_shown: bool = True) -> str:
    names = f"<tr>{''.join(f'<th>{_safe(name)}</th>' for name in head)}</tr>" if head_shown else ""
    cells = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{names}{cells}</table></div>'


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"<h2>{_safe(title)}</h2>", _table(head, rows)] if rows else []


def phases_drawing(certificate: Certificate) -> str:
    """Return the phases of the whole run, with the windows in which volumes stood still."""
    rows = [(one, "command" if one.name == "command" else "phase") for one in phases(certificate)]
    rows += [(Span("window", one.begin, one.seconds), "still") for one in windows(certificate)]
    return _bars("phases of the run", rows)


def _before_the_command(certificate: Certificate) -> list[str]:
    """Return the same up to the command, where a window can be seen, with each volume in it."""
    early = [one for one in phases(certificate) if one.name not in ("command", "release", "marking")]
    if not certificate["instants"]:
        return []
    rows = [(one, "phase") for one in early]
    still = {one["volume"]: one["still_ms"] for one in certificate["volumes"]}
    for instant, window in zip(certificate["instants"], windows(certificate), strict=True):
        rows.append((Span("window", window.begin, window.seconds), "still"))
        rows += [
            (Span(name, window.begin, still[name] / 1000), "still")
            for name in instant["volumes"]
            if still.get(name) is not None
        ]
    return [
        "<h2>Up to the command, and how long each volume stood still at most</h2>",
        _bars("up to the command", rows),
    ]


def _bars(title: str, rows: Sequence[tuple[Span, str]]) -> str:
    end = max((one.begin + one.seconds for one, _ in rows), default=0.0) or 1.0
    height = TOP + ROW * len(rows)
    parts = [_axis(end, height)]
    for number, (one, kind) in enumerate(rows):
        y = TOP + ROW * number
        width = max(2.0, _x(one.begin + one.seconds, end) - _x(one.begin, end))
        words = _safe(f"{one.name}: {brief(one.seconds)}")
        x = min(_x(one.begin, end), WIDTH - RIGHT - width)
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{_safe(_cut(one.name))}</text>'
            f'<rect class="{kind}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 8}">'
            f"<title>{words}</title></rect>{_beside(x, width, y, brief(one.seconds))}"
        )
    return _svg(title, height + 22, parts)


def _beside(x: float, width: float, y: int, text: str) -> str:
    """Return how long a bar is, in words after it, or before it where there is no room."""
    after = x + width + 60 < WIDTH
    place = f'x="{x + width + 5:.1f}"' if after else f'x="{x - 5:.1f}" text-anchor="end"'
    if not after and x - 60 < LEFT:  # a bar as wide as the drawing
        place = f'class="inside" x="{x + 5:.1f}"'
    return f'<text {place} y="{y + 15}">{_safe(text)}</text>'


def _fills(certificate: Certificate) -> list[str]:
    drawings = [
        part
        for name, curve, unit in curves(certificate)
        for part in (f"<h3>{_safe(name[0].upper() + name[1:])}</h3>", _fill(name, curve, unit))
    ]
    return ["<h2>What filled while the command ran</h2>", *drawings] if drawings else []


def _fill(name: str, curve: Sequence[Sequence[float]], unit: Unit) -> str:
    """Return one curve: what was used, and the room that there was, over the seconds since the command began."""
    end, top = float(curve[-1][0]) or 1.0, float(max(look[2] for look in curve)) or 1.0

    def y(size: float) -> float:
        return TOP + TALL * (1 - size / top)

    used = " ".join(f"{_x(look[0], end):.1f},{y(look[1]):.1f}" for look in curve)
    steps = []
    for before, look in zip([curve[0], *curve], curve, strict=False):
        steps += [f"{_x(look[0], end):.1f},{y(before[2]):.1f}", f"{_x(look[0], end):.1f},{y(look[2]):.1f}"]
    bottom = f"{_x(end, end):.1f},{y(0):.1f} {_x(0, end):.1f},{y(0):.1f}"
    last = curve[-1]
    return _svg(
        f"how {name} filled",
        TOP + TALL + 22,
        [
            _axis(end, TOP + TALL),
            f'<polygon class="fill" points="{used} {bottom}"/><polyline class="room" points="{" ".join(steps)}"/>',
            f'<text x="{LEFT - 10}" y="{y(top) + 5:.1f}" text-anchor="end">{_safe(unit(top, top))}</text>',
            f'<text x="{LEFT - 10}" y="{y(0) + 4:.1f}" text-anchor="end">0</text>',
            f'<text x="{WIDTH - RIGHT - 5}" y="{max(y(last[1]) - 6, 26):.1f}" text-anchor="end">'
            f"{_safe(unit(last[1], top))} used</text>",
        ],
    )


def _axis(end: float, height: int) -> str:
    parts = []
    for number in range(TICKS + 1):
        x = _x(end * number / TICKS, end)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height}"/>'
            f'<text class="dim" x="{x:.1f}" y="{height + 16}" text-anchor="middle">{brief(end * number / TICKS)}</text>'
        )
    return "".join(parts)


def _svg(title: str, height: int, parts: Iterable[str]) -> str:
    inner = "".join(parts)
    return (
        f'<div class="wide"><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{_safe(title)}</title>{inner}</svg></div>"
    )


def _x(seconds: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * seconds / end


def _cut(name: str) -> str:
    return name if len(name) <= 19 else f"{name[:18]}…"
