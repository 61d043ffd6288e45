"""Which of an application's data is in the snapshots of a run, and what is wrong with that. Pure.

An application of which a part is saved at another instant, or not at all, cannot be restored; and one that keeps
nothing in this run's snapshots stands still for nothing. Both are refused unless the configuration allows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from borg_lvm.config.sections import Coverage
from borg_lvm.machine.mounts import Mount, Table
from borg_lvm.planning.view_layout import FrozenPath, Resolved
from borg_lvm.plugins.application import Probe


@dataclass(frozen=True)
class ProbedApplication:
    """An application as it was found: what it told of itself, with every path's links resolved (empty: not there).

    `still`: at its level it writes nothing, so that its volumes need not be of one instant. `apart`: they must not be.
    """

    name: str
    plugin: str
    level: str
    does: str
    coverage: Coverage
    probe: Probe
    real: tuple[str, ...]
    still: bool
    apart: bool = False


@dataclass(frozen=True)
class Kept:
    """A path of an application's and the volume (`vg/lv`) whose snapshot holds it; or why none does.

    `inside` is its path in that volume's file system, `nested` are the volumes mounted below it. `after`: it must be
    saved when the application goes on again. `log`: it is written before the others are.
    """

    path: str
    what: str
    volume: str
    missing: str = ""
    inside: str = ""
    after: bool = False
    log: bool = False
    nested: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedApplication:
    """An application of the plan."""

    name: str
    plugin: str
    level: str
    does: str
    version: str
    kept: tuple[Kept, ...]
    notes: tuple[str, ...] = ()


class Coverer:
    """Judges applications; `volumes` names the volume below each cover, by the cover's target."""

    def __init__(self, resolved: Resolved, table: Table, volumes: Mapping[str, str], consistency: str) -> None:
        self._resolved = resolved
        self._table = table
        self._volumes = volumes
        self._consistency = consistency

    def cover(self, asked: ProbedApplication) -> PlannedApplication:
        """Find the snapshot that holds each of its paths."""
        found = zip(asked.probe.paths, asked.real, strict=True)
        kept = tuple(
            replace(self._kept(data.path, data.what, real), after=data.after, log=data.log) for data, real in found
        )
        return PlannedApplication(
            asked.name, asked.plugin, asked.level, asked.does, asked.probe.version, kept, asked.probe.notes
        )

    def problems(self, asked: ProbedApplication, covered: PlannedApplication) -> Iterator[str]:
        """Yield what is wrong, in the words of an error."""
        missing = [f"{kept.path} ({kept.what}): {kept.missing}" for kept in covered.kept if kept.missing]
        if missing and len(missing) == len(covered.kept):
            if asked.coverage != "any":
                yield (
                    f"{asked.name}: none of its data is among the sources: "
                    f"{'; '.join(missing)}; name it as a source, or allow it with `coverage: any`"
                )
        elif missing and (asked.apart or asked.coverage == "whole"):
            needed = f": at the level {asked.level} nothing can be restored without"
            yield (
                f"{asked.name}: a part of its data is not in this run: {'; '.join(missing)}; name it as a source"
                f"{needed if asked.apart else ', or allow it with `coverage: partly`'}"
            )
        volumes = sorted({name for kept in covered.kept for name in (kept.volume, *kept.nested) if name})
        several = self._consistency == "per-volume" and len(volumes) > 1
        if asked.apart and volumes and not several and not missing:
            yield (
                f"{asked.name}: its level {asked.level} is for volumes of several instants (`consistency: per-volume`)"
                ", and these are of one, from which it recovers without: use another level"
            )
        if several and not (asked.still or asked.apart):
            yield (
                f"{asked.name}: its data lies on {' and '.join(volumes)}, which must be of one instant, and at its "
                f"level {asked.level} it goes on writing; use `consistency: instant`"
            )

    def _kept(self, path: str, what: str, real: str) -> Kept:
        if not real:
            return Kept(path, what, "", "it is not there")
        mount = self._table.of(real)
        place = (mount.device, mount.inside(real))
        cover = next((cover for cover in self._resolved.covers if _within(place, _place(cover))), None)
        if cover is None:
            return Kept(path, what, "", self._why_not(mount))
        holes = [(hole.path, hole.reason, self._table.of(hole.path)) for hole in self._resolved.holes]
        for hole, reason, below in holes:
            spot = (below.device, below.inside(hole))
            if _within(place, spot) or (_within(spot, place) and _within(spot, _place(cover))):
                return Kept(path, what, "", f"{hole} stays live ({reason})")
        for inner in self._others(real):
            return Kept(path, what, "", f"another file system is mounted at {inner.path}, which is not in this run")
        return Kept(path, what, self._volumes[cover.target], inside=place[1], nested=self._nested(real))

    def _why_not(self, mount: Mount) -> str:
        if any(cover.mount.device == mount.device for cover in self._resolved.covers):
            return "the command does not read it"
        return f"it lies on {mount.source} ({mount.path}), which is not in this run"

    def _nested(self, real: str) -> tuple[str, ...]:
        """Return the volumes of this run that are mounted below a path."""
        base = real.rstrip("/") + "/"
        below = {mount.device for mount in self._table.mounts if mount.path.startswith(base)}
        return tuple(sorted({self._volumes[c.target] for c in self._resolved.covers if c.mount.device in below}))

    def _others(self, real: str) -> Sequence[Mount]:
        """Return the mounts below a path whose file systems no cover shows."""
        devices = {cover.mount.device for cover in self._resolved.covers}
        base = real.rstrip("/") + "/"
        return [mount for mount in self._table.mounts if mount.path.startswith(base) and mount.device not in devices]


def late(applications: Sequence[PlannedApplication]) -> frozenset[str]:
    """Return the volumes (`vg/lv`) that are snapshotted when all applications go on again."""
    return frozenset(kept.volume for one in applications for kept in one.kept if kept.after and kept.volume)


def logs(applications: Sequence[PlannedApplication]) -> frozenset[str]:
    """Return the volumes (`vg/lv`) of logs that applications keep apart from their data, unless one's are another's."""
    apart, data = set[str](), set[str]()
    for one in applications:
        own = {kept.volume for kept in one.kept if kept.volume and not kept.log}
        aside = {kept.volume for kept in one.kept if kept.volume and kept.log} - own
        apart |= aside
        data |= own if aside else set()
    return frozenset(apart - data)


def too_late(applications: Sequence[PlannedApplication]) -> Iterator[str]:
    """Yield which data would be snapshotted when its application goes on again, and must not be."""
    logs = {kept.volume: (one, kept) for one in applications for kept in one.kept if kept.after and kept.volume}
    for one in applications:
        for kept in one.kept:
            for volume in () if kept.after else sorted({kept.volume, *kept.nested} & set(logs)):
                other, log = logs[volume]
                if other is one and volume != kept.volume and log.path.startswith(f"{kept.path.rstrip('/')}/"):
                    continue  # the log itself is mounted there
                yield (
                    f"{other.name}: its {log.what} ({log.path}) is saved last, and must lie on a volume of its own for "
                    f"that; {kept.path} ({one.name}, {kept.what}) lies on {volume} too: use `consistency: "
                    "instant`, or another level"
                )


def _place(cover: FrozenPath) -> tuple[str, str]:
    return cover.mount.device, cover.inside


def _within(inner: tuple[str, str], outer: tuple[str, str]) -> bool:
    """Whether a place (device, path in its file system) is another, or below it."""
    return inner[0] == outer[0] and f"{inner[1].rstrip('/')}/".startswith(f"{outer[1].rstrip('/')}/")
