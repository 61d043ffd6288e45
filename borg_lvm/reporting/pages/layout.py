"""What all pages have in common: their style, and their tables. They are self-contained and have no script. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from borg_lvm.reporting.pages.svg import safe

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


def document(title: str, parts: Iterable[str]) -> str:
    """Return a page: its title as a heading, and parts that are HTML."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{safe(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{safe(title)}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, head_shown: bool = True) -> str:
    """Return rows of cells."""
    names = f"<tr>{''.join(f'<th>{safe(name)}</th>' for name in head)}</tr>" if head_shown else ""
    cells = "".join(f"<tr>{''.join(f'<td>{safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{names}{cells}</table></div>'


def section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a heading and rows of cells; nothing if there are none."""
    return [f"<h2>{safe(title)}</h2>", table(head, rows)] if rows else []
