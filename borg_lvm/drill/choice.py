"""Which run a drill is of, and which of its applications: from the certificates of past runs. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from borg_lvm.errors import UsageError
from borg_lvm.machine.mounts import RAW
from borg_lvm.plugins.backup_command import Span
from borg_lvm.plugins.read_back import Selection
from borg_lvm.records import dataclass
from borg_lvm.reporting.certificate import Certificate

DISK = "disk"
"""What stands for a plugin where a volume was itself a source, and no application has named it."""
APART = ("subvolume", "dataset")
"""Kinds of snapshots of what lies in no volume group."""
SAVED = ("success", "warning")
"""Results of runs that have saved something sound."""


@dataclass(frozen=True)
class DataFact:
    """A path of an application's data as a certificate has it; `given` is what a device was called for the backup."""

    path: str
    real: str
    what: str
    given: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        """The paths by which an archive may have it, the last one rather than the others."""
        return tuple(dict.fromkeys(filter(None, (self.given, self.real, self.path))))


@dataclass(frozen=True)
class ApplicationFacts:
    """What a certificate says of an application."""

    name: str
    plugin: str
    version: str
    remark: str
    data: tuple[DataFact, ...]

    def selection(self, beside: Sequence[str]) -> Selection:
        """Return what is restored of it: its paths, and the files beside those that are files (`beside`: endings)."""
        paths = dict.fromkeys(path for fact in self.data for path in fact.places)
        return Selection(paths=frozenset(path + end for path in paths for end in beside), prefixes=tuple(paths))


@dataclass(frozen=True)
class ChosenRun:
    """A run, when it ran, the instant of its last snapshots (Unix time), and those of its applications.

    `groups` are the volume groups in which it had snapshots.
    """

    run: str
    span: Span
    instant: float | None
    applications: tuple[ApplicationFacts, ...]
    groups: frozenset[str] = frozenset()


def choose(
    certificates: Sequence[Certificate], program: str, run: str, names: Sequence[str], archive: str = ""
) -> ChosenRun:
    """Return the newest run of a program that has saved applications; or the run of an id, or of its beginning.

    One that has saved none is of another command. Only a run that has saved the `archive`, if there is one
    (`ReadBack.archive`). Raises: UsageError.
    """
    fitting = list(_fitting(certificates, program, run, archive))
    if not fitting:
        which = f"run {run}" if run else f"run of {program} that ended well"
        which += f" and saved {archive}" if archive else ""
        raise UsageError(
            f"no {which} is recorded",
            remedy="see: borg-lvm history; or make a backup: borg-lvm run -- COMMAND …",
        )
    if run and len({certificate["run"] for certificate in fitting}) > 1:
        raise UsageError(f"{len(fitting)} runs begin with {run!r}", remedy="see: borg-lvm history")
    newest = next(filter(_known, reversed(fitting)), fitting[-1])
    known = _known(newest)
    missing = [name for name in names if name not in known]
    if missing:
        raise UsageError(
            f"the run {newest['run']} has saved no data of {', '.join(missing)} that is known",
            remedy="its certificate names what it has: borg-lvm report " + str(newest["run"]),
        )
    instants = [instant["time"] for instant in newest["instants"]]
    given = _devices(newest)
    applications = tuple(_facts(known[name], given) for name in known if not names or name in names)
    groups = frozenset(
        str(volume["volume"]).partition("/")[0] for volume in newest["volumes"] if volume.get("snapshot") not in APART
    )
    return ChosenRun(
        str(newest["run"]), Span(newest["begin"], newest["end"]), max(instants, default=None), applications, groups
    )


def _known(certificate: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the applications of a run of which it has saved data, by their names, and volumes that were sources."""
    known = {application["name"]: application for application in certificate["applications"] if application.get("data")}
    covered = {part["real"] for application in known.values() for part in application["data"]}
    for path, (volume, given) in _raw(certificate).items():
        if path not in covered:
            data = [{"path": given, "real": path, "what": DISK}]
            known[volume] = {"name": volume, "plugin": DISK, "version": "", "remark": "", "data": data}
    return known


def _devices(certificate: Mapping[str, Any]) -> dict[str, str]:
    """Return what devices that are sources were called, by what they were: the archive has them by that name."""
    return {path: given for path, (_, given) in _raw(certificate).items()}


def _raw(certificate: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the volume, and the name that was given for it, of each device that is a source, by its path."""
    raw = {volume["volume"] for volume in certificate["volumes"] if volume["filesystem"] == RAW}
    frozen = (path for path in certificate["frozen"] if path["volume"] in raw)
    return {path["path"]: (path["volume"], path["because"]) for path in frozen}


def _fitting(certificates: Sequence[Certificate], program: str, run: str, archive: str) -> Iterator[Mapping[str, Any]]:
    for certificate in certificates:
        if archive and certificate["archive"] != archive:
            continue
        if run:
            if str(certificate["run"]).startswith(run):
                yield certificate
        elif certificate["result"] in SAVED and certificate["command"]["program"] == os.path.basename(program):
            yield certificate


def _facts(application: Mapping[str, Any], given: Mapping[str, str]) -> ApplicationFacts:
    data = tuple(
        DataFact(str(part["path"]), str(part["real"]), str(part["what"]), given.get(part["real"], ""))
        for part in application["data"]
    )
    return ApplicationFacts(
        application["name"], application["plugin"], application["version"] or "", application["remark"] or "", data
    )
