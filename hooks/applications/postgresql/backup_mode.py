"""PostgreSQL's backup mode, for a cluster whose volumes are snapshotted one after the other: statements, and its label.

Between its begin and its end the server may write as it likes; a restore replays its WAL from the label's position on,
and needs all of it up to the end, which is why the WAL is snapshotted last. Until then a temporary slot keeps the
server from removing it; mode and slot end with their session. Source: PostgreSQL documentation, chapters 25.3 and 9.27.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from borg_lvm.plugin_api import Added, QuiesceError, opening
from borg_lvm_hooks.applications.postgresql.verify import position

NAMES_SINCE = 150000
"""Before that version its functions have other names; before 9.6 there is but the exclusive mode, not used."""
EXPIRY_SINCE = 140000
EXPIRY = "10min"
"""When the server ends a session of ours that hangs, and with it the slot."""
NAME, MAP = "backup_label", "tablespace_map"
_BEGIN = re.compile(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file ([0-9A-F]{24})\)$", re.MULTILINE)

# What it takes, as one line of JSON. Before version 15, pg_stop_backup without arguments ends the exclusive mode, which
# is not used here; and a user's functions may have the same names in a schema of theirs.
MEANS = """
SELECT json_build_object(
  'level', current_setting('wal_level'), 'slots', current_setting('max_replication_slots')::int,
  'segment', pg_size_bytes(current_setting('wal_segment_size')),
  'slot', (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user),
  'mode', (SELECT bool_and(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc
           WHERE proname IN ('pg_backup_start', 'pg_backup_stop', 'pg_start_backup', 'pg_stop_backup')
             AND pronamespace = 'pg_catalog'::regnamespace AND pronargs > 0));
"""


def refuse_unless_possible(means: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raise QuiesceError with the reason why this server, or this role, cannot do it. Pure."""
    if facts["recovery"]:
        raise QuiesceError(
            "it is a standby, whose control file would have to be saved last of its data",
            remedy="use `consistency: instant` and the level checkpoint",
        )
    if means["level"] == "minimal" or not means["slots"]:
        raise QuiesceError(
            "its backup mode needs a wal_level above minimal and a replication slot",
            remedy="set wal_level = replica and max_replication_slots, and restart it",
        )
    if not means["slot"]:
        raise QuiesceError(f"the role {facts['user']} may not make a slot", remedy="ALTER ROLE … REPLICATION")
    if not means["mode"]:
        names = functions(facts["number"])
        raise QuiesceError(
            f"the role {facts['user']} may not call {' and '.join(name.partition('(')[0] for name in names)}",
            remedy=f"GRANT EXECUTE ON FUNCTION {', '.join(names)} TO it, in the database that the option names",
        )


def new(number: int) -> bool:
    """Return whether a version (`server_version_num`) has the functions' new names."""
    return number >= NAMES_SINCE


def functions(number: int) -> tuple[str, str]:
    """Return the functions that begin and end it, as GRANT takes them: before version 15 a name alone is ambiguous."""
    if new(number):
        return "pg_backup_start", "pg_backup_stop"
    return "pg_start_backup", "pg_stop_backup(boolean, boolean)"


def keep(number: int, slot: str) -> str:
    """Return the statements that have the server keep its WAL from now on, as long as the session lasts."""
    expiry = f"SET idle_session_timeout = '{EXPIRY}'; " if number >= EXPIRY_SINCE else ""
    return f"{expiry}SELECT pg_create_physical_replication_slot('{slot}', true, true);"


def begin(number: int) -> str:
    """Return the statement that begins it, which waits for a checkpoint."""
    start = "pg_backup_start('borg-lvm', true)" if new(number) else "pg_start_backup('borg-lvm', true, false)"
    return f"SELECT {start};"


def end(number: int) -> str:
    """Return the statement that ends it and returns what a copy needs, as one line of JSON."""
    stop = "pg_backup_stop(false)" if new(number) else "pg_stop_backup(false, false)"
    return f"SELECT json_build_object('end', lsn, 'label', labelfile, 'map', spcmapfile) FROM {stop};"  # noqa: S608 - both are ours


def held(slot: str) -> str:
    """Return the statement that returns whether the slot is still held: 1 or 0."""
    return f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active;"  # noqa: S608 - ours


@dataclass(frozen=True)
class Ended:
    """A backup mode that has ended: its label and tablespace map, and from where to where (`LSN`) the WAL is needed."""

    label: str
    map: str
    begin: str
    end: str
    files: tuple[str, ...]

    def added(self, data: str, owner: int) -> tuple[Added, ...]:
        """Return what a plain restore must find in the directory of data, which belongs to this user."""
        files = (Added(data, NAME, self.label.encode(), owner), Added(data, MAP, self.map.encode(), owner))
        return files if self.map else files[:1]


def ended(answer: Mapping[str, Any], segment: int) -> Ended:
    """Read the answer to the end of the mode; `segment` is the size of a WAL file in bytes. Pure.

    Raises: QuiesceError when it is not understood.
    """
    match = _BEGIN.search(answer["label"])
    if not match:
        raise QuiesceError(f"its backup label is not understood: {answer['label']!r}")
    names = files(match[2][:8], match[1], answer["end"], segment)
    return Ended(answer["label"], answer["map"] or "", match[1], answer["end"], names)


def files(timeline: str, first: str, last: str, segment: int) -> tuple[str, ...]:
    """Return the names of the WAL files that hold all from one position to before another. Pure."""
    each = (1 << 32) // segment
    numbers = range(position(first) // segment, (position(last) - 1) // segment + 1)
    return tuple(f"{timeline}{number // each:08X}{number % each:08X}" for number in numbers)


def verify(data: str, known: Ended, owner: int) -> str:
    """Return what was verified in the snapshot that is seen at `data`, which is this user's.

    Raises: QuiesceError with what is wrong.
    """
    for file in known.added(data, owner):
        path = os.path.join(data, file.name)
        try:
            with opening.plain(path, owner) as stream:
                same = stream.read(len(file.content) + 1) == file.content
        except OSError as error:
            raise QuiesceError(f"the snapshot is wrong: {path} cannot be read: {error}") from error
        if not same:
            raise QuiesceError(f"the snapshot is wrong: {path} is not the label of this backup")
    missing = [name for name in known.files if not os.path.isfile(os.path.join(data, "pg_wal", name))]
    if missing:
        raise QuiesceError(
            f"the snapshot is wrong: it has no {missing[0]} of the WAL from {known.begin} to {known.end}"
        )
    return f"{NAME}, WAL from {known.begin} to {known.end}"
