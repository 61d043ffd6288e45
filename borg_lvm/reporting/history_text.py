"""All runs that were written down, a line each: how full their snapshots were, how long volumes were suspended. Pure.

Raises: LookupError, TypeError, ValueError and AttributeError for a certificate that is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from borg_lvm.planning.snapshot_size import human
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.reporting.run_text import brief, spark
from borg_lvm.reporting.terminal import columns, shown

HEAD = ("RUN", "BEGAN", "RESULT", "PROGRAM", "TOOK", "STILL", "USED")
"""The run's id begins with the year. What is usual fits a terminal of 80 columns."""
LATEST = 30
"""So many of the latest runs of a volume make its trend."""


def line(certificate: Certificate) -> tuple[str, ...]:
    """Return the cells of one run: the longest suspension of a volume, and the fullest snapshot."""
    volumes = certificate["volumes"]
    still = [volume["still_ms"] for volume in volumes if volume["still_ms"] is not None]
    used = [_part(space) for volume in volumes if (space := volume["space"]) and space["used"] is not None]
    lost = any(volume["lost"] for volume in volumes)
    result = certificate["result"].upper() if certificate["result"] == "tainted" else certificate["result"]
    cells = (
        certificate["run"],
        f"{datetime.fromtimestamp(certificate['begin']):%m-%d %H:%M}",
        result if result == "success" else f"{result} {certificate['status']}",
        certificate["command"]["program"],
        brief(certificate["end"] - certificate["begin"]),
        brief(max(still) / 1000) if still else "-",
        "lost" if lost else f"{100 * max(used):.0f} %" if used else "-",
    )
    return tuple(shown(cell) for cell in cells)


def _part(space: Mapping[str, int]) -> float:
    return space["used"] / space["total"] if space["total"] else 0.0


def table(runs: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield a line for each run."""
    yield from (text.removeprefix("  ") for text in columns([HEAD, *runs]))


def trends(certificates: Sequence[Certificate]) -> Iterator[str]:
    """Yield for each volume how its suspensions and the space that its snapshots used have developed."""
    looks: dict[str, list[tuple[float | None, float | None, str, bool]]] = {}
    for certificate in certificates:
        for volume in certificate["volumes"]:
            lost = bool(volume["lost"])  # it needed more than it had, whatever was seen in it last
            space = _number(volume["space"]["total" if lost else "used"] if volume["space"] else None)
            looks.setdefault(volume["uuid"], []).append(
                (space, _number(volume["still_ms"]), shown(volume["volume"]), lost)
            )
    for seen in looks.values():
        latest = seen[-LATEST:]
        used = [look[0] for look in latest if look[0] is not None]
        still = [look[1] for look in latest if look[1] is not None]
        if len(used) > 1 or len(still) > 1:
            yield ""
            yield f"{latest[-1][2]}, oldest first:"
        if len(used) > 1:
            yield f"  space used   {spark(used)}  {human(used[0])} … {human(used[-1])}, at most {human(max(used))}"
        if losses := sum(look[3] for look in latest):
            yield f"  lost         {losses} of {len(latest)}: they needed more than they had"
        if len(still) > 1:
            times = [brief(milliseconds / 1000) for milliseconds in (still[0], still[-1], max(still))]
            yield f"  suspended  {spark(still)}  {times[0]} … {times[1]}, at most {times[2]}"


def _number(value: float | None) -> float | None:
    return None if value is None else value + 0  # a TypeError for what is none
