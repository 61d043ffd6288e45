"""Looking at the machine once, and making the plan of it. Reads only; one LVM process, few more for LUKS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from borg_lvm.errors import LockedError, SourceError
from borg_lvm.linux import namespaces
from borg_lvm.machine import block_devices, lvm, mounts
from borg_lvm.machine.paths import look, look_declared
from borg_lvm.planning import consent, plan
from borg_lvm.planning.view_layout import ROOT_LIVE, Resolved, Wanted, mounts_around, resolve
from borg_lvm.planning.volumes import SnapshotCandidate, Volumes
from borg_lvm.plugins import elsewhere, manager, wrappers
from borg_lvm.plugins.backup_command import Invocation, LivePath, Reading
from borg_lvm.records import dataclass
from borg_lvm.session import automounts, command_sources, fscrypt, live_paths, snapshot_target, volume_facts
from borg_lvm.snapshots.providers import provider
from borg_lvm.state import history, locks
from borg_lvm.view import path_watch

if TYPE_CHECKING:
    from borg_lvm.config.schema import Settings
    from borg_lvm.planning.application_data import DataCoverage, ProbedApplication
    from borg_lvm.planning.plan import Plan
    from borg_lvm.state.history import History

LOOK_AGAIN = 0.5
"""Seconds between two questions whether another run still holds a volume still."""


@dataclass(frozen=True)
class Question:
    """What the user typed: the command, and the paths named beside it."""

    argv: tuple[str, ...]
    cwd: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """The plan, the volumes that were seen on the way, and directories to be made before the snapshot.

    `planned` makes the plan anew, from what was seen, with volumes (`vg/lv`) that are to be held still last. `live` are
    all paths that must be live, links resolved, wherever they lie.
    """

    plan: Plan
    planned: Callable[[frozenset[str]], Plan]
    inventory: lvm.Inventory
    make: tuple[str, ...]
    resolved: Resolved
    mounts: frozenset[tuple[str, str, str]]
    invocation: Invocation
    reading: Reading
    history: History
    live: tuple[str, ...] = ()

    def with_applications(self, asked: Sequence[ProbedApplication], left_out: Sequence[str]) -> Survey:
        """Return the survey with applications in its plan, and why some are `left_out` among its notes.

        Raises: SourceError when the data of one is not in this run as the configuration wants it.
        """
        from borg_lvm.planning import application_data
        from borg_lvm.quiesce import added_files

        coverage = self.coverage()
        covered = tuple(coverage.planned(probed) for probed in asked)
        problems = [why for probed, kept in zip(asked, covered, strict=True) for why in coverage.problems(probed, kept)]
        problems += application_data.too_late(covered)
        problems += added_files.refusals(asked, covered, self.plan.snapshots)
        if problems:
            words = "an application's data is not in this run as it must be; nothing was done"
            raise SourceError(words, details=tuple(problems))
        plan = self._with_last(application_data.logs(covered))
        notes = (*self.plan.notes, *left_out)
        plan = replace(plan, applications=covered, notes=notes, seen=self.plan.seen, ways=self.plan.ways)
        return replace(self, plan=plan)

    def _with_last(self, logs: frozenset[str]) -> Plan:
        """Return the plan with these volumes held last."""
        if not logs or self.plan.consistency != "instant":
            return self.plan
        return self.planned(logs)

    def coverage(self) -> DataCoverage:
        """Return what judges which of an application's data is in this run."""
        from borg_lvm.planning.application_data import DataCoverage

        volumes = {at.target: self.plan.snapshots[at.snapshot].origin.full_name for at in self.plan.view_mounts}
        return DataCoverage(self.resolved, mounts.Table(mounts.read()), volumes, self.plan.consistency)

    def with_proof(self, settings: Settings) -> Survey:
        """Return the survey with what is read back of what the command saves. Raises: SourceError if it cannot be."""
        from borg_lvm.proof import stage

        dry_run = self.reading.dry_run
        proven = stage.planned(self.plan, self.invocation, settings.hooks, settings.prove, dry_run=dry_run)
        return replace(self, plan=proven)

    def with_holders(self) -> Survey:
        """Return the survey with a note for each volume that another run holds at this moment."""
        holders = locks.holders([snapshot.origin for snapshot in self.plan.snapshots])
        return replace(self, plan=replace(self.plan, notes=(*self.plan.notes, *holders)))

    def changed(self) -> list[str]:
        """Return the paths of mounts at, above or below the sources that came or went since this survey."""
        now = mounts_around(self.resolved, mounts.Table(mounts.read()))
        return sorted({path for path, _, _ in now ^ self.mounts})


def new_run_id() -> str:
    """Return an id that sorts by time and is never given twice."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"


def survey(question: Question, settings: Settings) -> Survey:
    """Read the command line, the mounts and the volumes, and decide everything.

    Raises: UsageError when the source paths are not known, or in a chroot; SourceError when one cannot be frozen;
    ProgramError.
    """
    namespaces.refuse_chroot()
    command = _read(question, settings)
    live = (*map(os.path.normpath, settings.live), *(look(live_path.path).behind for live_path in command.reading.live))
    table = automounts.opened(command.sources, live, one_file_system=command.reading.one_file_system)
    wanted = _wanted(command, settings, table)
    resolved = _resolved(question, command, wanted, table)
    past = history.read()
    planner = _planner(command, resolved, settings, past)
    plan = planner.planned()  # what is wrong with a path is said before what is at it
    snapshot_target.refuse_missing(plan.snapshots)
    plan = replace(
        plan, seen=path_watch.identities(resolved), ways={seen.given: path_watch.way(seen) for seen in wanted.sources}
    )
    with path_watch.watching(path_watch.lasting(plan)):
        pass  # as the command's start does: what is missing for it is said before anything is done
    return Survey(
        plan=plan,
        planned=planner.planned,
        inventory=planner.volumes.inventory,
        make=_directories_to_make(wanted, resolved),
        resolved=resolved,
        mounts=mounts_around(resolved, table),
        invocation=command.invocation,
        reading=command.reading,
        history=past,
        live=live,
    )


@dataclass(frozen=True)
class _Command:
    """What is run, as its plugin reads it, and the paths that are to be frozen for it."""

    invocation: Invocation
    reading: Reading
    sources: tuple[str, ...]

    @property
    def as_read(self) -> bool:
        """Whether the sources are the command's own: those that the user names are meant as they are."""
        return self.sources == self.reading.sources


def _read(question: Question, settings: Settings) -> _Command:
    """Read the command line. Raises: UsageError, SourceError."""
    invocation = wrappers.peel(question.argv, os.environ, question.cwd)
    elsewhere.refuse(invocation)
    reading = manager.read_command(settings.hooks, invocation) or Reading(invocation.program, "")
    named = [os.path.join(question.cwd, path) for path in question.paths]
    sources = command_sources.sources(named, settings, reading)
    named_live = (live.path for live in (*reading.live, *reading.writes_beside))
    command_sources.refuse_impossible([*sources, *settings.live, *named_live])
    return _Command(invocation, reading, sources)


def _wanted(command: _Command, settings: Settings, table: mounts.Table) -> Wanted:
    """Look at all paths that are named, by whomever. Raises: SourceError."""
    reading = command.reading
    seen = tuple(look(path) for path in command.sources)
    if command.as_read:
        command_sources.refuse_devices(reading, seen)
    elsewhere.refuse_raw(command.invocation, [source.device for source in seen])
    declared = tuple(look_declared(path, table) for path in settings.live)
    return Wanted(
        sources=seen,
        declared=declared,
        needed=(
            *((look(live.path), live) for live in _needed(reading)),
            *live_paths.for_any(os.environ, (*seen, *declared)),
        ),
        one_file_system=reading.one_file_system,
        skips_files=reading.skips_files,
        named=not command.as_read,
        excluded=reading.excluded if command.as_read else (),
        live_types=settings.live_types,
        skip_missing=settings.missing_sources == "skip",
        links={path: os.path.realpath(path) for path, _ in ROOT_LIVE if os.path.islink(path)},
    )


def _resolved(question: Question, command: _Command, wanted: Wanted, table: mounts.Table) -> Resolved:
    """Decide what is frozen and what stays live. Raises: SourceError."""
    reading = command.reading
    if question.paths:
        command_sources.refuse_others(wanted, reading)
    resolved = resolve(wanted, table)
    resolved = replace(
        resolved, live_sources=(*resolved.live_sources, *command_sources.read_live(wanted, resolved, reading))
    )
    command_sources.refuse_standard_input(resolved)
    beside = consent.unwritable(resolved, [(look(live.path), live) for live in reading.writes_beside])
    resolved = replace(resolved, problems=(*resolved.problems, *beside))
    return consent.unread(wanted, fscrypt.with_encrypted(resolved), table)


@dataclass(frozen=True)
class _Planner:
    """Makes the plan of a run, anew if it must be, from what was seen."""

    settings: plan.PlanSettings
    resolved: Resolved
    sources: tuple[str, ...]
    volumes: Volumes
    minors: frozenset[int]
    reading: Reading
    past: History

    def planned(self, logs: frozenset[str] = frozenset()) -> Plan:
        """Return the plan, with these volumes (`vg/lv`) held last. Raises: SourceError."""
        from borg_lvm.reporting.lifetime import lifetime

        planned = plan.make(replace(self.settings, logs=logs), self.resolved, self.sources, self.volumes, self.minors)
        runs = (self.past.volumes.get(snapshot.origin.uuid, ()) for snapshot in planned.snapshots)
        return replace(planned, notes=(*planned.notes, *self.reading.notes), lifetime=lifetime(self.reading, runs))


def _planner(command: _Command, resolved: Resolved, settings: Settings, past: History) -> _Planner:
    """Ask for the volumes, and for all that a plan needs to know of them. Raises: LockedError, ProgramError."""
    devices = [frozen_path.mount.device for frozen_path in resolved.frozen]
    with volume_facts.speeds(devices) as speeds:
        volumes = _looked(devices, settings) if devices else Volumes((), {})
    candidates = _found(resolved, volumes)
    wanted = plan.PlanSettings(
        run_id=new_run_id(),
        size=settings.snapshot.size,
        known=volume_facts.known(candidates, settings, past, speeds),
        persistent_minor=settings.snapshot.persistent_minor,
        consistency=settings.consistency,
        key_files=volume_facts.key_sources(candidates, settings),
        external_journals=volume_facts.external_journals(candidates),
        places=volume_facts.places(settings, volumes.inventory.groups.values()),
    )
    held_up = volume_facts.with_held_up(resolved, candidates)
    return _Planner(wanted, held_up, command.sources, volumes, block_devices.taken_minors(), command.reading, past)


def _needed(reading: Reading) -> Iterator[LivePath]:
    """Yield what the command must find live.

    With --one-file-system it does not enter what is live below a snapshot: that has another device number.
    """
    for live in reading.live:
        yield from live.least() if reading.one_file_system else (live,)


def _directories_to_make(wanted: Wanted, resolved: Resolved) -> tuple[str, ...]:
    """Return the directories that the command would make itself, if the view let it."""
    live_paths = {live_path.path for live_path in resolved.live_paths}
    missing = (seen.real for seen, live in wanted.needed if live.make and seen.kind == "missing")
    return tuple(path for path in missing if path in live_paths)


def _looked(devices: Sequence[str], settings: Settings) -> Volumes:
    """Ask for the volumes. One below these devices that another run holds still just now is waited for.

    Nobody needs to resume it: that happens by itself. Raises: LockedError; as `Provider.look`.
    """
    end = time.monotonic() + settings.lock_wait
    while True:
        volumes = provider().look(devices, settings.command_timeout)
        try:
            locks.refuse_held(volumes.suspended(), settings.lock_wait)
            return volumes
        except LockedError:
            if time.monotonic() >= end:
                raise
            time.sleep(LOOK_AGAIN)


def _found(resolved: Resolved, volumes: Volumes) -> list[tuple[mounts.Mount, SnapshotCandidate]]:
    """Return the volumes of the frozen paths, with their mounts; the plan says why the rest has none."""
    answers = ((path.mount, volumes.find(path.mount, path.inside)) for path in resolved.frozen)
    return [(mount, found) for mount, found in answers if not (isinstance(found, str) or found.apart)]
