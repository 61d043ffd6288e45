"""What past runs have used, kept in `/var/lib/borg-lvm/history`: one small JSON file a run, its name sorts by time.

A backup never fails for its history: what cannot be read is set aside with a warning, what cannot be written is left
out with one. Each file holds what sizes need of its run, and the run's certificate. Files of runs whose command never
came to its end have another ending, so that any number of them pushes nothing out that sizes need.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from borg_lvm.errors import ForeignStateError
from borg_lvm.log import Log
from borg_lvm.planning.usage_estimate import Once
from borg_lvm.reporting.certificate import VERSION as CERTIFICATE
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.reporting.outcome import Outcome
from borg_lvm.state import directories

FOLDER = "/var/lib/borg-lvm/history"
VERSION = 1
ENDING, FAILED, ASIDE = ".json", ".failed", ".damaged"
KEPT = 60
"""So many runs are kept, so many that failed, and so many that were set aside."""
LARGEST = 1 << 20


@dataclass(frozen=True)
class History:
    """What is known: of each volume, by its uuid, the runs that count, oldest first; and what could not be read."""

    volumes: Mapping[str, list[Once]] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    trouble: str = ""


def read() -> History:
    """Read the history. Changes nothing."""
    try:
        names = sorted(name for name in directories.names(FOLDER) if name.endswith(ENDING))
    except FileNotFoundError:
        return History()
    except ForeignStateError as error:
        return History(trouble=f"the history is not used: {error.message}; {error.remedy}")
    except OSError as error:
        return History(trouble=f"the history in {FOLDER} cannot be read: {error.strerror}")
    volumes: defaultdict[str, list[Once]] = defaultdict(list)
    damaged = []
    for name in names[-KEPT:]:
        try:
            found = _parsed(os.path.join(FOLDER, name))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            damaged.append(name)
            continue
        for uuid, once in found:
            volumes[uuid].append(once)
    return History(volumes, tuple(damaged))


def _parsed(path: str) -> list[tuple[str, Once]]:
    """Return what a file tells of each volume. Raises: OSError; ValueError, TypeError, LookupError for nonsense."""
    data = _loaded(path)
    if data["version"] != VERSION:
        return []  # of another version of ours, which will want it again
    return [
        (str(one["uuid"]), _once(data["seconds"], one))
        for one in data["volumes"]
        if one["lost"] or _is_complete(data["status"])
    ]


def _loaded(path: str) -> Any:
    with open(directories.opened(path, os.O_RDONLY), "rb") as file:
        return json.loads(file.read(LARGEST))


def _once(seconds: float, one: dict[str, Any]) -> Once:
    numbers = [one[name] for name in ("used", "space", "written")]
    if not all(type(number) is int and 0 <= number < 1 << 60 for number in numbers) or not 0 <= seconds < 1 << 40:
        raise ValueError("not a number of bytes")
    return Once(float(seconds), numbers[0], numbers[1], bool(one["lost"]), numbers[2])


def _is_complete(status: int) -> bool:
    """Whether a command of this status has probably read all: 3 is restic's for files that it could not read."""
    return status in (0, 1, 3) or 100 <= status <= 127


def keep(outcome: Outcome, certificate: Certificate, history: History, log: Log) -> None:
    """Write a run down, set aside what was damaged, and let the oldest go."""
    if history.trouble:
        log.warning(history.trouble)
    try:
        with directories.directory(FOLDER, make=True):
            pass
        for name in history.damaged:
            os.replace(os.path.join(FOLDER, name), os.path.join(FOLDER, name.removesuffix(ENDING) + ASIDE))
            log.warning(f"the history of a run was damaged and has been set aside: {FOLDER}/{name}")
        entry = _entry(outcome) if outcome.complete else {"version": VERSION, "run": outcome.plan.run_id}
        name = f"{outcome.plan.run_id}{ENDING if outcome.complete else FAILED}"
        directories.written(os.path.join(FOLDER, name), json.dumps({**entry, "certificate": certificate}).encode())
        _forget_oldest()
    except ForeignStateError as error:
        if not history.trouble:
            log.warning(f"the history of this run is not kept: {error.message}; {error.remedy}")
    except OSError as error:
        why = f"cannot be kept in {FOLDER}: {error.strerror}"
        log.warning(f"the history of this run {why}; the backup is not concerned")


def _entry(outcome: Outcome) -> dict[str, Any]:
    seen = zip(outcome.plan.copies, outcome.fills, outcome.stories, strict=True)
    return {
        "version": VERSION,
        "run": outcome.plan.run_id,
        "begin": round(outcome.begin, 3),
        "seconds": round(outcome.seconds, 3),
        "status": outcome.status,
        "volumes": [
            {
                "uuid": copy.origin.uuid,
                "name": copy.origin.full_name,
                "used": max(story.course.last.used, fill.used),  # what came after the last look counts, too
                "space": max(story.course.last.total, fill.total),
                "grown": story.grown,
                "written": story.written,
                "lost": bool(fill.problem),
            }
            for copy, fill, story in seen
            if story.course
        ],
    }


def _forget_oldest() -> None:
    for ending in (ENDING, FAILED, ASIDE):
        names = sorted(name for name in os.listdir(FOLDER) if name.endswith(ending))
        for name in names[:-KEPT]:
            os.unlink(os.path.join(FOLDER, name))


@dataclass(frozen=True)
class Record:
    """A run that was written down; without a certificate, `problem` says why there is none to show."""

    run_id: str
    certificate: Certificate | None
    problem: str = ""


def records() -> list[Record]:
    """Read the certificates of all runs, oldest first. Changes nothing. Raises: OSError, ForeignStateError."""
    try:
        names = sorted(name for name in directories.names(FOLDER) if name.endswith((ENDING, FAILED)))
    except FileNotFoundError:
        return []
    return [_record(name) for name in names]


def _record(name: str) -> Record:
    path, run_id = os.path.join(FOLDER, name), os.path.splitext(name)[0]
    try:
        found = _loaded(path)["certificate"]
        if found["version"] != CERTIFICATE:
            return Record(run_id, None, f"its certificate in {path} is of another version of borg-lvm's")
    except KeyError:
        return Record(run_id, None, f"{path} has no certificate: it is of an older borg-lvm")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return Record(run_id, None, f"{path} cannot be read or is damaged ({type(error).__name__}); it may be removed")
    return Record(run_id, found)
