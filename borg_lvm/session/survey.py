"""Looking at the machine once, and making the plan of it. Reads only; two LVM processes, few more for LUKS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from borg_lvm.config.schema import Settings
from borg_lvm.errors import LockedError, SourceError
from borg_lvm.linux import namespaces, safe_open
from borg_lvm.linux.safe_open import Identity
from borg_lvm.machine import block_devices, lvm, mounts
from borg_lvm.machine.paths import SeenPath, look, look_declared
from borg_lvm.planning import application_data, consent, plan
from borg_lvm.planning.application_data import Coverer, ProbedApplication
from borg_lvm.planning.plan import Plan
from borg_lvm.planning.view_layout import ROOT_HOLES, FrozenPath, Resolved, Wanted, resolve, standing
from borg_lvm.planning.volumes import SnapshotCandidate, Volumes
from borg_lvm.plugins import elsewhere, manager, wrappers
from borg_lvm.plugins.backup_command import Invocation, LivePath, Reading
from borg_lvm.quiesce import added_files
from borg_lvm.session import automounts, command_sources, fscrypt, live_paths, snapshot_target, volume_facts
from borg_lvm.snapshots.providers import provider
from borg_lvm.state import history, locks
from borg_lvm.state.history import History
from borg_lvm.view import mounts as view_mounts
from borg_lvm.view import path_watch

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
    """The plan, the volumes that were seen on the way, and folders to be made before the snapshot.

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
        coverer = self.coverer()
        covered = tuple(coverer.cover(one) for one in asked)
        problems = [told for one, kept in zip(asked, covered, strict=True) for told in coverer.problems(one, kept)]
        problems += application_data.too_late(covered)
        problems += added_files.refusals(asked, covered, self.plan.copies)
        if problems:
            words = "an application's data is not in this run as it must be; nothing was done"
            raise SourceError(words, details=tuple(problems))
        made = self._with_last(application_data.logs(covered))
        notes = (*self.plan.notes, *left_out)
        made = replace(made, applications=covered, notes=notes, seen=self.plan.seen, ways=self.plan.ways)
        return replace(self, plan=made)

    def _with_last(self, logs: frozenset[str]) -> Plan:
        """Return the plan with these volumes held last."""
        if not logs or self.plan.consistency != "instant":
            return self.plan
        return self.planned(logs)

    def coverer(self) -> Coverer:
        """Return what judges which of an application's data is in this run."""
        volumes = {laid.target: self.plan.copies[laid.copy].origin.full_name for laid in self.plan.covers}
        return Coverer(self.resolved, mounts.Table(mounts.read()), volumes, self.plan.consistency)

    def with_holders(self) -> Survey:
        """Return the survey with a note for each volume that another run holds at this moment."""
        told = locks.told([copy.origin for copy in self.plan.copies])
        return replace(self, plan=replace(self.plan, notes=(*self.plan.notes, *told)))

    def changed(self) -> list[str]:
        """Return the paths of mounts at, above or below the sources that came or went since this survey."""
        now = standing(self.resolved, mounts.Table(mounts.read()))
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
    invocation = wrappers.peel(question.argv, os.environ, question.cwd)
    elsewhere.refuse(invocation)
    reading = manager.read_command(settings.hooks, invocation) or Reading(invocation.program, "")
    named = [os.path.join(question.cwd, path) for path in question.paths]
    sources = command_sources.sources(named, settings, reading)
    named_live = (live.path for live in (*reading.live, *reading.writes_beside))
    command_sources.refuse_impossible([*sources, *settings.live, *named_live])
    needed = [look(one.path) for one in reading.live]
    live = (*map(os.path.normpath, settings.live), *(one.behind for one in needed))
    table = automounts.opened(sources, live, one_file_system=reading.one_file_system)
    seen = tuple(look(path) for path in sources)
    as_read = sources == reading.sources  # those that the user names, or the configuration, are meant as they are
    if as_read:
        command_sources.refuse_devices(reading, seen)
    elsewhere.refuse_raw(invocation, [one.device for one in seen])
    declared = tuple(look_declared(path, table) for path in settings.live)
    wanted = Wanted(
        sources=seen,
        declared=declared,
        needed=(
            *((look(live.path), live) for live in _needed(reading)),
            *live_paths.for_any(os.environ, (*seen, *declared)),
        ),
        one_file_system=reading.one_file_system,
        skips_files=reading.skips_files,
        named=not as_read,
        excluded=reading.excluded if as_read else (),
        live_types=settings.live_types,
        skip_missing=settings.missing_sources == "skip",
        links={path: os.path.realpath(path) for path, _ in ROOT_HOLES if os.path.islink(path)},
    )
    if question.paths:
        command_sources.refuse_others(wanted, reading)
    resolved = resolve(wanted, table)
    resolved = replace(
        resolved, live_sources=(*resolved.live_sources, *command_sources.read_live(wanted, resolved, reading))
    )
    command_sources.refuse_standard_input(resolved)
    beside = consent.unwritable(resolved, [(look(live.path), live) for live in reading.writes_beside])
    resolved = replace(resolved, problems=(*resolved.problems, *beside))
    devices = [cover.mount.device for cover in resolved.covers]
    with volume_facts.speeds(devices) as speeds:
        volumes = _looked(devices, settings) if resolved.covers else Volumes((), {})
    found = _found(resolved, volumes)
    past = history.read()
    wishes = plan.Wishes(
        run_id=new_run_id(),
        size=settings.snapshot.size,
        known=volume_facts.known(found, settings, past, speeds),
        persistent_minor=settings.snapshot.persistent_minor,
        consistency=settings.consistency,
        key_files=volume_facts.key_sources(found, settings),
        external_journals=volume_facts.external_journals(found),
    )
    minors = block_devices.taken_minors()

    def planned(logs: frozenset[str] = frozenset()) -> Plan:
        made = plan.make(replace(wishes, logs=logs), resolved, sources, volumes, minors)
        return replace(made, notes=(*made.notes, *reading.notes, *_afterwards(reading)))

    make = _folders_to_make(wanted, resolved)
    seen_mounts = standing(resolved, table)
    resolved = consent.unread(wanted, fscrypt.told(resolved), table)
    made = planned()  # what is wrong with a path is said before what is at it
    snapshot_target.refuse_missing(made.copies)
    made = replace(made, seen=_identities(resolved), ways={one.given: _way(one) for one in seen})
    with path_watch.watching(view_mounts.lasting(made)):
        pass  # as the command's start does: what is missing for it is said before anything is done
    return Survey(made, planned, volumes.inventory, make, resolved, seen_mounts, invocation, reading, past, live)


def _afterwards(reading: Reading) -> list[str]:
    """Say that the snapshots exist for longer than they are read."""
    if not reading.afterwards:
        return []
    actions = " and ".join([", ".join(reading.afterwards[:-1]), reading.afterwards[-1]]).removeprefix(" and ")
    return [
        f"the snapshots exist until {reading.program} has ended, also during {actions}, which read no source: "
        f"better run `{reading.program} create` in borg-lvm, and {actions} without it afterwards"
    ]


def _identities(resolved: Resolved) -> dict[str, Identity]:
    """Return what is there now at each path that is opened later, and see that it is where the plan takes it to be.

    Raises: SnapshotError.
    """
    wanted: dict[str, int | None] = {hole.path: None for hole in resolved.holes}
    for cover in resolved.covers:
        on = None if cover.mount.fstype == mounts.RAW else cover.mount.id
        wanted[cover.target] = on
        if on is not None:
            wanted[cover.mount.path] = on
    found = {path: safe_open.seen(path, on) for path, on in wanted.items()}
    covered = {path for cover in resolved.covers for path in _opened_for(cover)}
    for path in covered:
        if found[path] is None:
            raise safe_open.changed(path, "it is gone")
    return {path: identity for path, identity in found.items() if identity}


def _opened_for(cover: FrozenPath) -> tuple[str, ...]:
    return (cover.target,) if cover.mount.fstype == mounts.RAW else (cover.target, cover.mount.path)


def _way(one: SeenPath) -> tuple[str, str]:
    """Return what of a source's name is resolved by whoever reads it, and where that leads.

    It is all of it: what is a directory now may be a link in the snapshot. A device is known by its number.
    """
    if one.device:
        return os.path.dirname(one.given), os.path.dirname(one.real)
    return one.given, one.behind


def _needed(reading: Reading) -> Iterator[LivePath]:
    """Yield what the command must find live.

    With --one-file-system it does not enter what is live below a snapshot: that has another device number.
    """
    for live in reading.live:
        yield from live.least() if reading.one_file_system else (live,)


def _folders_to_make(wanted: Wanted, resolved: Resolved) -> tuple[str, ...]:
    """Return the folders that the command would make itself, if the view let it."""
    holes = {hole.path for hole in resolved.holes}
    return tuple(
        seen.real for seen, live in wanted.needed if live.make and seen.kind == "missing" and seen.real in holes
    )


def _looked(devices: Sequence[str], settings: Settings) -> Volumes:
    """Ask for the volumes. One below these devices that another run holds still just now is waited for.

    Nobody must be told to resume it: it goes again by itself. Raises: LockedError; as `Provider.look`.
    """
    end = time.monotonic() + settings.lock_wait
    while True:
        volumes = provider().look(devices, settings.command_timeout)
        try:
            locks.refuse_held(volumes.suspended(), settings.lock_wait)
        except LockedError:
            if time.monotonic() >= end:
                raise
            time.sleep(LOOK_AGAIN)
            continue
        return volumes


def _found(resolved: Resolved, volumes: Volumes) -> list[tuple[mounts.Mount, SnapshotCandidate]]:
    """Return what can be snapshotted of the covers, with its mount; the plan says why the rest cannot."""
    answers = [(cover.mount, volumes.find(cover.mount)) for cover in resolved.covers]
    return [(mount, answer) for mount, answer in answers if not isinstance(answer, str)]
