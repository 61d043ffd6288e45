"""Which of an application's data is in the snapshots of a run, and what is wrong with that. Pure.

An application of which a part is saved at another instant, or not at all, cannot be restored; and one that keeps
nothing in this run's snapshots is quiesced for nothing. Both are refused unless the configuration allows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from borg_lvm.machine.mounts import RAW
from borg_lvm.records import dataclass

if TYPE_CHECKING:
    from borg_lvm.config.sections import Coverage
    from borg_lvm.machine.mounts import Mount, Table
    from borg_lvm.planning.view_layout import FrozenPath, Resolved
    from borg_lvm.plugins.application import DataPath, Probe


@dataclass(frozen=True)
class ProbedApplication:
    """An application as it was found: what its probe returned, with every path's links resolved (empty: not there).

    `devices` has the `major:minor` of each path that is a block device, and is empty if none is. `still`: at its level
    it writes nothing, so that its volumes need not be of one instant. `apart`: they must not be.
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
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """A path of an application's and the volume (`vg/lv`) whose snapshot holds it; or why none does.

    `inside` is its path in that volume's file system, `nested` are the volumes mounted below it. `after`: it must be
    saved when the application goes on again. `log`: it is written before the others are. `real` is the path with all
    links resolved.
    """

    path: str
    what: str
    volume: str
    missing: str = ""
    inside: str = ""
    after: bool = False
    log: bool = False
    nested: tuple[str, ...] = ()
    real: str = ""


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


class DataCoverage:
    """Judges applications; `volumes` names the volume below each frozen path, by the frozen path's target."""

    def __init__(self, resolved: Resolved, table: Table, volumes: Mapping[str, str], consistency: str) -> None:
        self._resolved = resolved
        self._table = table
        self._volumes = volumes
        self._consistency = consistency

    def planned(self, asked: ProbedApplication) -> PlannedApplication:
        """Find the snapshot that holds each of its paths."""
        devices = asked.devices or ("",) * len(asked.real)
        kept = tuple(
            replace(
                self._device_kept(data, real, device) if device else self._kept(data.path, data.what, real),
                after=data.after,
                log=data.log,
            )
            for data, real, device in zip(asked.probe.paths, asked.real, devices, strict=True)
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
        frozen_path = next(
            (frozen_path for frozen_path in self._resolved.frozen if _within(place, _place(frozen_path))), None
        )
        if frozen_path is None:
            return Kept(path, what, "", self._why_not(mount))
        live_paths = [
            (live_path.path, live_path.reason, self._table.of(live_path.path))
            for live_path in self._resolved.live_paths
        ]
        for live_path, reason, below in live_paths:
            spot = (below.device, below.inside(live_path))
            if _within(place, spot) or (_within(spot, place) and _within(spot, _place(frozen_path))):
                return Kept(path, what, "", f"{live_path} stays live ({reason})")
        for inner in self._others(real):
            return Kept(path, what, "", f"another file system is mounted at {inner.path}, which is not in this run")
        return Kept(
            path, what, self._volumes[frozen_path.target], inside=place[1], nested=self._nested(real), real=real
        )

    def _device_kept(self, data: DataPath, real: str, device: str) -> Kept:
        """Find the snapshot of a volume that is itself the source: by its number, for it may have several names."""
        for frozen_path in self._resolved.frozen:
            if frozen_path.mount.fstype == RAW and frozen_path.mount.device == device:
                return Kept(data.path, data.what, self._volumes[frozen_path.target], inside="/", real=real)
        return Kept(data.path, data.what, "", "the command does not read this device")

    def _why_not(self, mount: Mount) -> str:
        if any(frozen_path.mount.device == mount.device for frozen_path in self._resolved.frozen):
            return "the command does not read it"
        return f"it lies on {mount.source} ({mount.path}), which is not in this run"

    def _nested(self, real: str) -> tuple[str, ...]:
        """Return the volumes of this run that are mounted below a path."""
        base = real.rstrip("/") + "/"
        below = {mount.device for mount in self._table.mounts if mount.path.startswith(base)}
        return tuple(sorted({self._volumes[c.target] for c in self._resolved.frozen if c.mount.device in below}))

    def _others(self, real: str) -> Sequence[Mount]:
        """Return the mounts below a path whose file systems no frozen path shows."""
        devices = {frozen_path.mount.device for frozen_path in self._resolved.frozen}
        base = real.rstrip("/") + "/"
        return [mount for mount in self._table.mounts if mount.path.startswith(base) and mount.device not in devices]


def logs(applications: Sequence[PlannedApplication]) -> frozenset[str]:
    """Return the volumes (`vg/lv`) of logs that applications keep apart from their data, unless one's are another's."""
    apart, data = set[str](), set[str]()
    for application in applications:
        own = {kept.volume for kept in application.kept if kept.volume and not kept.log}
        aside = {kept.volume for kept in application.kept if kept.volume and kept.log} - own
        apart |= aside
        data |= own if aside else set()
    return frozenset(apart - data)


def too_late(applications: Sequence[PlannedApplication]) -> Iterator[str]:
    """Yield which data would be snapshotted when its application goes on again, and must not be."""
    logs = {
        kept.volume: (application, kept)
        for application in applications
        for kept in application.kept
        if kept.after and kept.volume
    }
    for application in applications:
        for kept in application.kept:
            for volume in () if kept.after else sorted({kept.volume, *kept.nested} & set(logs)):
                other, log = logs[volume]
                if other is application and volume != kept.volume and log.path.startswith(f"{kept.path.rstrip('/')}/"):
                    continue  # the log itself is mounted there
                yield (
                    f"{other.name}: its {log.what} ({log.path}) is saved last, and must lie on a volume of its own for "
                    f"that; {kept.path} ({application.name}, {kept.what}) lies on {volume} too: use `consistency: "
                    "instant`, or another level"
                )


def _place(frozen_path: FrozenPath) -> tuple[str, str]:
    return frozen_path.mount.device, frozen_path.inside


def _within(inner: tuple[str, str], outer: tuple[str, str]) -> bool:
    """Whether a place (device, path in its file system) is another, or below it."""
    return inner[0] == outer[0] and f"{inner[1].rstrip('/')}/".startswith(f"{outer[1].rstrip('/')}/")
