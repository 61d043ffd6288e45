"""When each application was last restored and judged good, and whether that was too long ago. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from borg_lvm.check.finding import Finding
from borg_lvm.records import dataclass, field

DAY = 86400


@dataclass(frozen=True)
class Drills:
    """What is known of drills.

    `names` are the configured applications that can be drilled. Of each, as far as it is known: `good` is when its last
    good drill ended, `bad` the id of its latest drill if that found something wrong, `saved` when a run first saved it.
    Times are Unix time, `now` too; `warn_after` is seconds, 0 for never. `unlimited` says why a drill that is started
    as this check is would have no limits of memory and processors, if so.
    """

    names: tuple[str, ...] = ()
    good: Mapping[str, float] = field(default_factory=dict)
    bad: Mapping[str, str] = field(default_factory=dict)
    saved: Mapping[str, float] = field(default_factory=dict)
    now: float = 0.0
    warn_after: float = 0.0
    unlimited: str = ""


def findings(drills: Drills) -> Iterator[Finding]:
    """Yield a finding for each application that can be drilled."""
    for name in drills.names:
        if name in drills.bad:
            message = "its last drill has found something wrong in the archive"
            yield Finding("warning", name, message, f"borg-lvm report {drills.bad[name]}")
        elif drills.warn_after:
            yield _by_age(drills, name)
    if drills.names and drills.unlimited:
        message = f"one that is started from here has no limits of memory and processors: {drills.unlimited}"
        yield Finding("note", "drill", message, "systemctl start borg-lvm-drill@NAME.service")


def _by_age(drills: Drills, name: str) -> Finding:
    remedy = f"borg-lvm drill {name} -- COMMAND …"
    good, saved = drills.good.get(name), drills.saved.get(name, drills.now)
    if good is not None:
        message = f"its last good drill was {_ago(drills.now - good)}"
        late = drills.now - good > drills.warn_after
        return Finding("warning", name, message, remedy) if late else Finding("ok", name, message)
    if drills.now - saved > drills.warn_after:
        message = f"it was first saved {_ago(drills.now - saved)}, and has had no good drill yet: no restore is proven"
        return Finding("warning", name, message, remedy)
    return Finding("note", name, "it has had no drill yet: no restore is proven", remedy)


def _ago(seconds: float) -> str:
    days = int(seconds // DAY)
    return "less than a day ago" if days < 1 else "a day ago" if days == 1 else f"{days} days ago"
