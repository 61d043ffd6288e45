"""The certificate of a run for people, in the terminal: what was frozen, what each application got, when what was done.

Pure. Raises: LookupError, TypeError, ValueError and AttributeError for a certificate that is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from borg_lvm.planning.snapshot_size import human
from borg_lvm.planning.space.growth_policy import duration
from borg_lvm.records import dataclass
from borg_lvm.reporting import proof
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.reporting.terminal import columns, shown

WIDTH, HEIGHT = 56, 4  # with what stands beside it, a terminal of 80 columns
BLOCKS = " ▁▂▃▄▅▆▇█"
Unit = Callable[[float, float], str]
"""Prints an amount for a person; the second is the most that there was room for."""
CONSISTENCY = {
    "application": "a restore has its files in order",
    "crash-consistent": "as a power cut at the instant would have left it",
    "none": "nothing is promised",
}


@dataclass(frozen=True)
class Interval:
    """Something that lasted: when it began, in seconds since the run did, and how many seconds it took."""

    name: str
    begin: float
    seconds: float


def phases(certificate: Certificate) -> list[Interval]:
    """Return the parts of the run."""
    return [Interval(phase["name"], float(phase["begin"]), float(phase["seconds"])) for phase in certificate["phases"]]


def windows(certificate: Certificate) -> list[Interval]:
    """Return the times in which volumes were suspended, by the clock that the host had."""
    return [
        Interval(
            ", ".join(instant["volumes"]),
            max(0.0, instant["time"] - certificate["begin"]),
            instant["uncertainty_ms"] / 1000,
        )
        for instant in certificate["instants"]
    ]


def moment(time: float) -> str:
    """Return a time (Unix time) in the local time zone."""
    return f"{datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M:%S%z}"


def brief(seconds: float) -> str:
    """Return a time for a person, a short one in milliseconds or tenths of a second."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def lines(certificate: Certificate) -> Iterator[str]:
    """Yield the report."""
    yield from _head(certificate)
    frozen = [(path["path"], path["volume"]) for path in certificate["frozen"]]
    yield from _table("Read from snapshots:", ("PATH", "VOLUME"), frozen)
    yield from _table(
        "Read from the live file system:",
        ("PATH", "REASON"),
        [(path["path"], path["because"]) for path in certificate["live"]],
    )
    names = ("VOLUME", "FILE SYSTEM", "SUSPENDED", "SPACE USED", "GROWN")
    yield from _table("Volumes:", names, [_volume(volume) for volume in certificate["volumes"]])
    yield from _applications(certificate)
    yield ""
    yield "Timeline:"
    yield from timeline(certificate)
    for name, curve, unit in curves(certificate):
        yield ""
        yield shown(f"How {name} filled:")
        yield from chart(curve, unit)


def _head(certificate: Certificate) -> Iterator[str]:
    command = certificate["command"]
    yield shown(f"Run {certificate['run']} on {certificate['host']}: {result_text(certificate)}")
    took = brief(certificate["end"] - certificate["begin"])
    yield f"  began at {moment(certificate['begin'])} and took {took}"
    name = " ".join(word for word in (command["program"], command["action"]) if word)
    if command["status"] is None:
        yield shown(f"  {name} did not run to its end")
    else:
        yield shown(f"  {name} ended with status {command['status']} after {brief(command['seconds'])}")
    if certificate["archive"]:
        yield shown(f"  it saved the archive {certificate['archive']}")
    if data := certificate.get("proof"):
        yield f"  {proof.line(proof.from_data(data))}"
    for line in instants(certificate):
        yield shown(f"  {line}")
    for line in [*complaint(certificate), *certificate["marked"]]:
        yield shown(f"  {line}")
    released = certificate["released"]
    yield {
        "released": "  all snapshots were removed",
        "kept": shown(f"  kept: {', '.join(released['snapshots'])}"),
        "incomplete": shown(f"  not released: {', '.join(released['left'])}"),
    }[released["state"]]


def complaint(certificate: Certificate) -> list[str]:
    """Return what the run said was wrong, without what was done with what it saved, which is shown by itself."""
    error, marked = certificate["error"], certificate["marked"]
    return [error["message"], *(line for line in error["details"] if line not in marked)] if error else []


def result_text(certificate: Certificate) -> str:
    """Return the result of a run, in a few words."""
    words = {
        "success": "success",
        "warning": "saved, with a warning",
        "failure": "failure",
        "tainted": "BACKUP INVALID",
    }
    return f"{words[certificate['result']]} (status {certificate['status']})"


def instants(certificate: Certificate) -> Iterator[str]:
    """Yield when the snapshots were taken."""
    several = len(certificate["instants"]) > 1
    for instant in certificate["instants"]:
        window = f"{moment(instant['time'])}, known to within {brief(instant['uncertainty_ms'] / 1000)}"
        yield (
            f"{', '.join(instant['volumes'])}: an instant of its own, {window}" if several else f"one instant, {window}"
        )
    if not certificate["instants"]:
        yield "no snapshot was taken"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield ""
        yield title
        yield from columns([head, *rows])


def volume_cells(volume: dict[str, Any]) -> tuple[str, str, str]:
    """Return how long a volume was suspended, how much of its snapshot's space was used, and how much that grew."""
    still = "-" if volume["still_ms"] is None else f"≤ {brief(volume['still_ms'] / 1000)}"
    space = volume["space"]
    if volume["lost"]:
        used = "LOST"
    elif not space:
        used = "in the pool"
    else:
        used = "-" if space["used"] is None else f"{human(space['used'])} of {human(space['total'])}"
    return still, used, human(space["grown"]) if space and space["grown"] else "-"


def _volume(volume: dict[str, Any]) -> Sequence[str]:
    kind = volume["filesystem"] + (" on LUKS" if volume["luks"] else "")
    return (volume["volume"], kind, *volume_cells(volume))


def application_cells(application: dict[str, Any], certificate: Certificate) -> tuple[str, str, str]:
    """Return what a restore can count on, how long the application was quiesced, and what else there is to report."""
    return (
        f"{application['consistency']}: {promise(application, certificate)}",
        still(application),
        "; ".join(remarks(application)),
    )


def promise(application: dict[str, Any], certificate: Certificate) -> str:
    """Return what a restore can count on; where the run is to blame that it is nothing, that."""
    command, level = certificate["command"], application["consistency"]
    if level != "none" or certificate["result"] not in ("failure", "tainted"):
        return CONSISTENCY[level]
    if certificate["result"] == "tainted":
        return "what was saved is invalid"
    if command["status"] is None:
        return "nothing was saved"
    return f"no backup was completed ({command['program']} ended with status {command['status']})"


def still(application: dict[str, Any]) -> str:
    """Return how long an application was quiesced."""
    return brief(application["still_ms"] / 1000)


def remarks(application: dict[str, Any]) -> list[str]:
    """Return what else there is to report of an application."""
    right = f"verified in the snapshot: {application['verified']}" if application.get("verified") else ""
    lines = [
        application["why"] or application["remark"] or "",
        right,
        *(f"not saved: {path}" for path in application["not_saved"]),
    ]
    return [word for word in lines if word]


def _applications(certificate: Certificate) -> Iterator[str]:
    applications = certificate["applications"]
    rows = [
        (application["name"], application["level"], still(application), application["consistency"])
        for application in applications
    ]
    yield from _table("Applications:", ("NAME", "LEVEL", "QUIESCED", "CONSISTENCY"), rows)
    for application in applications:  # on lines of their own, which may be long
        text = "; ".join([promise(application, certificate), *remarks(application)])
        yield shown(f"  {application['name']}: {text}")


def timeline(certificate: Certificate) -> Iterator[str]:
    """Yield a bar for each phase and each window; what is too short for a column gets one all the same."""
    spans = phases(certificate)
    whole = max([span.begin + span.seconds for span in spans], default=0.0) or 1.0
    for span in spans:
        yield bar(span, whole, "█")
        if span.name == "snapshots":
            for window in windows(certificate):
                yield bar(Interval("  window", window.begin, window.seconds), whole, "▒")


def curves(certificate: Certificate) -> Iterator[tuple[str, Sequence[Sequence[float]], Unit]]:
    """Yield what filled, its curve, and how a height of it is written: snapshots in bytes, thin pools in per cent."""
    for filled in certificate["volumes"]:
        if filled["space"] and len(filled["curve"]) > 1:
            yield f"the snapshot of {filled['volume']}", filled["curve"], lambda size, _: human(size)
    for filled in certificate["pools"]:
        if len(filled["curve"]) > 1:
            name = f"the {filled['what']} of the thin pool {filled['pool']}"
            yield name, filled["curve"], lambda size, top: f"{100 * size / top:.0f} %"


def bar(span: Interval, whole: float, mark: str, name: int = 10) -> str:
    """Return a line with a bar for a part of `whole` seconds, after its name in so many columns."""
    first = min(WIDTH - 1, int(WIDTH * span.begin / whole))
    length = max(1, min(WIDTH - first, round(WIDTH * span.seconds / whole)))
    return f"  {span.name:<{name}} {brief(span.seconds):>8}  {' ' * first}{mark * length}".rstrip()


def chart(curve: Sequence[Sequence[float]], unit: Unit) -> Iterator[str]:
    """Yield a curve of filling, with the space that there was in the end as its height."""
    end, top = curve[-1][0] or 1.0, max(look[2] for look in curve) or 1.0
    levels = []
    for column in range(WIDTH):
        used = [look[1] for look in curve if look[0] <= end * (column + 1) / WIDTH]
        levels.append(round(HEIGHT * 8 * (used[-1] if used else 0) / top))
    for row in reversed(range(HEIGHT)):
        cells = "".join(BLOCKS[max(0, min(8, level - 8 * row))] for level in levels)
        label = unit(top, top) if row == HEIGHT - 1 else "0" if not row else ""
        yield f"  {label:>10} ┤{cells}".rstrip()
    yield f"  {'':>10} └{'─' * WIDTH} {brief(end)}"


def spark(values: Sequence[float]) -> str:
    """Return a few numbers as one line of blocks, from nothing to the largest."""
    top = max(values, default=0) or 1
    return "".join(BLOCKS[max(1, min(8, round(8 * value / top)))] for value in values)
