"""What past runs have used, kept in `/var/lib/borg-lvm/history`: one small JSON file a run, its name sorts by time.

A backup never fails for its history: what cannot be read is set aside with a warning, what cannot be written is left
out with one. Each file holds what sizes need of its run, and the run's certificate. Files of runs whose command never
came to its end have another ending, so that any number of them pushes nothing out that sizes need.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from borg_lvm.errors import ForeignStateError
from borg_lvm.planning.space.chunk_size import SIZES
from borg_lvm.planning.space.usage_estimate import LVM_CHUNK, Once
from borg_lvm.records import dataclass, field
from borg_lvm.state import directories, kept
from borg_lvm.state.kept import KeptRecord

if TYPE_CHECKING:
    from borg_lvm.log import Log
    from borg_lvm.reporting.certificate import Certificate
    from borg_lvm.reporting.outcome import Outcome

DIRECTORY = "/var/lib/borg-lvm/history"
VERSION = 1
ENDING, FAILED, ASIDE = ".json", ".failed", ".damaged"
KEPT = 60
"""So many runs are kept, so many that failed, and so many that were set aside."""


@dataclass(frozen=True)
class History:
    """What is known: of each volume, by its uuid, the runs that count, oldest first; and what could not be read."""

    volumes: Mapping[str, list[Once]] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    trouble: str = ""


def read() -> History:
    """Read the history. Changes nothing."""
    try:
        names = sorted(name for name in directories.names(DIRECTORY) if name.endswith(ENDING))
    except FileNotFoundError:
        return History()
    except ForeignStateError as error:
        return History(trouble=f"the history is not used: {error.message}; {error.remedy}")
    except OSError as error:
        return History(trouble=f"the history in {DIRECTORY} cannot be read: {error.strerror}")
    volumes: defaultdict[str, list[Once]] = defaultdict(list)
    damaged = []
    for name in names[-KEPT:]:
        try:
            parsed = _parsed(os.path.join(DIRECTORY, name))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            damaged.append(name)
            continue
        for uuid, once in parsed:
            volumes[uuid].append(once)
    return History(volumes, tuple(damaged))


def _parsed(path: str) -> list[tuple[str, Once]]:
    """Return what a file records of each volume. Raises: OSError; ValueError, TypeError, LookupError for nonsense."""
    data = kept.loaded(path)
    if data["version"] != VERSION:
        return []  # of another version of ours, which will want it again
    return [
        (str(volume["uuid"]), _once(data["seconds"], volume))
        for volume in data["volumes"]
        if volume["lost"] or _is_complete(data["status"])
    ]


def _once(seconds: float, volume: dict[str, Any]) -> Once:
    numbers = [volume[name] for name in ("used", "space", "written")]
    # An older borg-lvm had LVM's own chunks, and did not write down the others.
    numbers += [volume.get("chunk", LVM_CHUNK), volume.get("writes", 0), volume.get("wanted", 0)]
    if not all(type(number) is int and 0 <= number < 1 << 60 for number in numbers) or not 0 <= seconds < 1 << 40:
        raise ValueError("not a number of bytes")
    used, space, written, chunk, count, wanted = numbers
    if chunk not in SIZES:
        raise ValueError("not the size of a chunk")
    return Once(float(seconds), used, space, bool(volume["lost"]), written, chunk, count, wanted)


def _is_complete(status: int) -> bool:
    """Whether a command of this status has probably read all: 3 is restic's for files that it could not read."""
    return status in (0, 1, 3) or 100 <= status <= 127


def keep(outcome: Outcome, certificate: Certificate, history: History, log: Log) -> None:
    """Write a run down, set aside what was damaged, and let the oldest go."""
    if history.trouble:
        log.warning(history.trouble)
    try:
        with directories.directory(DIRECTORY, make=True):
            pass
        for name in history.damaged:
            os.replace(os.path.join(DIRECTORY, name), os.path.join(DIRECTORY, name.removesuffix(ENDING) + ASIDE))
            log.warning(f"the history of a run was damaged and has been set aside: {DIRECTORY}/{name}")
        entry = _entry(outcome) if outcome.complete else {"version": VERSION, "run": outcome.plan.run_id}
        name = f"{outcome.plan.run_id}{ENDING if outcome.complete else FAILED}"
        directories.written(os.path.join(DIRECTORY, name), kept.dumped(certificate, **entry))
        kept.forget_oldest(DIRECTORY, (ENDING, FAILED, ASIDE), KEPT)
    except ForeignStateError as error:
        if not history.trouble:
            log.warning(f"the history of this run is not kept: {error.message}; {error.remedy}")
    except OSError as error:
        why = f"cannot be kept in {DIRECTORY}: {error.strerror}"
        log.warning(f"the history of this run {why}; the backup is not concerned")


def _entry(outcome: Outcome) -> dict[str, Any]:
    seen = zip(outcome.plan.snapshots, outcome.fills, outcome.stories, outcome.fates(), strict=True)
    return {
        "version": VERSION,
        "run": outcome.plan.run_id,
        "begin": round(outcome.ran.begin, 3),
        "seconds": round(outcome.seconds, 3),
        "status": outcome.status,
        "volumes": [
            {
                "uuid": snapshot.origin.uuid,
                "name": snapshot.origin.full_name,
                "used": max(story.course.last.used, fill.used),  # what came after the last look counts, too
                "space": max(story.course.last.total, fill.total),
                "grown": story.grown,
                "written": story.written,
                "writes": story.count,
                "chunk": snapshot.chunk,
                "lost": bool(fill.problem),
                "wanted": fate.wanted().size if fill.problem else 0,
            }
            for snapshot, fill, story, fate in seen
            if story.course
        ],
    }


def records() -> list[KeptRecord]:
    """Read the certificates of all runs, oldest first. Changes nothing. Raises: OSError, ForeignStateError."""
    from borg_lvm.reporting.certificate import VERSION as CERTIFICATE  # for reports: a run reads no certificate

    return kept.records(DIRECTORY, (ENDING, FAILED), CERTIFICATE, key="certificate")
