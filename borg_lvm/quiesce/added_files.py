"""Puts into a snapshot what its restore needs and the original must not have: a label of PostgreSQL's, for instance.

Before anybody sees it, the snapshot is mounted writable in a child with a mount namespace of its own, written to, and
unmounted. Its directories belong to others, so none of their links is followed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from borg_lvm.errors import SnapshotError, with_notes
from borg_lvm.linux import namespaces, safe_open, syscalls
from borg_lvm.planning.application_data import Kept, PlannedApplication, ProbedApplication
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.plugins.application import Added
from borg_lvm.records import dataclass
from borg_lvm.snapshots.providers import provider
from borg_lvm.state.ledger import Ledger

THERE = "there"


@dataclass(frozen=True)
class SnapshotDirectory:
    """A snapshot, and a directory in its file system."""

    snapshot: Snapshot
    inside: str


def refusals(
    asked: Sequence[ProbedApplication], covered: Sequence[PlannedApplication], snapshots: Sequence[Snapshot]
) -> Iterator[str]:
    """Yield why something could not be put into a snapshot. Pure."""
    unfit = {snapshot.origin.full_name: _unfit(snapshot) for snapshot in snapshots if _unfit(snapshot)}
    for application, coverage in zip(asked, covered, strict=True):
        for data, kept in zip(application.probe.paths, coverage.kept, strict=True):
            if data.labelled and kept.volume in unfit:
                yield (
                    f"{application.name}: {kept.path} lies on {kept.volume}, which is {unfit[kept.volume]}: "
                    f"the level {application.level} has to write into its snapshot, and cannot; "
                    "use `consistency: instant` and another level"
                )


def _unfit(snapshot: Snapshot) -> str:
    """Return why a snapshot cannot be mounted writable; empty if it can."""
    if snapshot.apart:
        return f"a {snapshot.kind} of {snapshot.fstype}, whose snapshots are read-only"
    return "encrypted" if snapshot.crypt else "copied as it is" if snapshot.raw else ""


def put(plan: Plan, added: Mapping[str, Sequence[Added]], ledger: Ledger) -> None:
    """Write all of it, by the names of the applications. Raises: SnapshotError."""
    for application in plan.applications:
        for file in added.get(application.name, ()):
            place = _place(plan.snapshots, application.kept, file.directory)
            if place is None:
                raise SnapshotError(
                    f"{application.name}: {file.name} cannot be put into a snapshot: {file.directory} is in none"
                )
            problem = _written(place, file, os.path.join(ledger.directory, "adding"))
            if problem == THERE:
                there = os.path.join(file.directory, file.name)
                raise SnapshotError(
                    f"{application.name}: its snapshot needs a {file.name}, and {there} is there",
                    remedy="it is left from a restore or from another backup: find out which, and remove it",
                )
            if problem:
                raise SnapshotError(f"{application.name}: {file.name} cannot be put into its snapshot: {problem}")


def _place(snapshots: Iterable[Snapshot], kept: Iterable[Kept], directory: str) -> SnapshotDirectory | None:
    """Find where in which snapshot a directory is. Pure."""
    kept_path = next((each for each in kept if each.path == directory and each.volume), None)
    snapshot = next(
        (snapshot for snapshot in snapshots if kept_path and snapshot.origin.full_name == kept_path.volume), None
    )
    return SnapshotDirectory(snapshot, kept_path.inside) if snapshot and kept_path else None


def _written(place: SnapshotDirectory, file: Added, staging: str) -> str:
    """Write one file; return what went wrong, if anything. In a child, whose mounts go with it."""

    def work() -> str:
        try:
            namespaces.make_own()
            provider().mount(place.snapshot, staging, syscalls.MS_NOEXEC)
            write(place.inside, file, below=staging)
            syscalls.umount(staging, 0)
        except FileExistsError:
            return THERE
        except OSError as error:
            return with_notes(error)
        return ""

    os.mkdir(staging, 0o700)
    try:
        problem = namespaces.apart(work)
    finally:
        os.rmdir(staging)
    return "the process that wrote it was ended" if problem is None else problem


def write(directory: str, file: Added, below: str) -> None:
    """Write a file for the owner alone of a directory below another one, through no link.

    Raises: OSError, also when the directory is not its owner's: its name may be meant to have root write elsewhere.
    """
    with safe_open.path(below) as top, safe_open.path(directory, top, safe_open.DIRECTORY) as place:
        owner = os.fstat(place).st_uid
        if owner != file.owner:
            raise PermissionError(errno.EPERM, f"it belongs to user {owner}, not {file.owner}", directory)
        safe_open.new_file(place, file.name, file.content)
