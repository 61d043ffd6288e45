"""Verifies the snapshot of a PostgreSQL cluster: what can be checked in a moment, without starting a server on it.

Its control file says whose it is, whether the server ran, and from which checkpoint a restore begins; the server's own
pg_controldata, if it is here, says whether the file is whole. Source: src/include/catalog/pg_control.h: the system
identifier, two version numbers and the state come first, in all versions.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass

from borg_lvm.plugin_api import Account, QuiesceError, client_process, opening, permissions

HEAD = struct.Struct("=QIIi")
RUNNING = {5: "in archive recovery", 6: "in production"}
"""The states of a cluster whose server runs: a standby's, and a primary's."""
DAMAGED = "CRC checksum does not match"
"""What pg_controldata says in all versions; around it the words have changed: source: pg_controldata.c of 13 to 18."""
TIMEOUT = 60.0  # seconds; the core's own limit is shorter


@dataclass(frozen=True)
class Known:
    """What is known of the running cluster: its identifier, where a recovery began when it was prepared, its user."""

    system: str
    checkpoint: str
    user: Account


def verify(data: str, known: Known) -> str:
    """Return what was verified in the snapshot that is seen at `data`. Raises: QuiesceError with what is wrong."""
    _refuse_foreign(os.path.join(data, "global", "pg_control"), known)
    program = _program(data, known.user.uid)
    if not os.access(program, os.X_OK):
        return "pg_control"
    begin, file = _checkpoint(_controldata(program, data, known.user))
    if position(begin) < position(known.checkpoint):
        problem = f"its last checkpoint, {begin}, is older than the server's, {known.checkpoint}"
        raise QuiesceError(f"the snapshot is wrong: {problem}")
    if not os.path.isfile(os.path.join(data, "pg_wal", file)):
        raise QuiesceError(f"the snapshot is wrong: a recovery begins at {begin}, and it has no WAL file {file}")
    return f"pg_control with its checksum, WAL from {begin} on"


def _refuse_foreign(path: str, known: Known) -> None:
    try:
        with opening.plain(path, known.user.uid) as file:
            identifier, _, _, state = HEAD.unpack(file.read(HEAD.size))
    except (OSError, struct.error) as error:
        raise QuiesceError(f"the snapshot is wrong: {path} cannot be read: {error}") from error
    if str(identifier) != known.system:
        raise QuiesceError(
            f"the snapshot is wrong: it is of the cluster {identifier}, and the server's is {known.system}"
        )
    if state not in RUNNING:
        raise QuiesceError(f"the snapshot is wrong: its control file has the state {state}, as of no server that runs")


def _program(data: str, owner: int) -> str:
    """Return where the server's own pg_controldata would be.

    Nothing, if the process that the copy names has ended, or runs a program of others than root: in the view that could
    hand open files of the snapshot to others, who keep it in use.
    """
    try:
        with opening.plain(os.path.join(data, "postmaster.pid"), owner) as file:
            process = int(file.readline(64))
    except (OSError, ValueError) as error:
        raise QuiesceError(
            "the snapshot is wrong: it has no postmaster.pid, as that of a running server has"
        ) from error
    try:
        program = os.path.join(os.path.dirname(os.readlink(f"/proc/{process}/exe")), "pg_controldata")
        return "" if permissions.changeable_by_others(program, permissions.Owner(0)) else program
    except OSError:
        return ""


def _controldata(program: str, data: str, user: Account) -> str:
    """Return what it says, on one line. It runs as the server's user, for a file of theirs names what is run."""
    if user.uid == 0:
        raise QuiesceError("its files are root's, and no PostgreSQL server runs as root")
    with client_process.unseen([program, "-D", data], user) as running:
        status = running.status(TIMEOUT)
        said = running.words()
    if status:
        raise QuiesceError(f"the snapshot is wrong: pg_controldata cannot read it: {said}")
    if DAMAGED in said:
        raise QuiesceError("the snapshot is wrong: the checksum of its global/pg_control does not fit")
    return said


def _checkpoint(said: str) -> tuple[str, str]:
    """Return where a recovery begins: the position, and the name of the WAL file."""
    match = re.search(r"REDO location: ([0-9A-F]+/[0-9A-F]+) .*REDO WAL file: ([0-9A-F]+)", said)
    if not match:
        raise QuiesceError("the snapshot is wrong: pg_controldata prints no last checkpoint")
    return match[1], match[2]


def position(text: str) -> int:
    """Read a position in the WAL (`LSN`): how many bytes lie before it."""
    high, low = (int(part, 16) for part in text.split("/"))
    return (high << 32) + low
