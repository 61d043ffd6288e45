"""Prepares PostgreSQL clusters: a checkpoint just before the instant, or backup mode; nothing is locked.

All of a cluster at one instant is what a power cut would leave, from which PostgreSQL recovers by itself; the
checkpoint keeps that recovery short. Backup mode is for a cluster whose volumes cannot be of one instant, and for no
other: with its label, a snapshot taken before the mode's end does not start. We hold one session of psql, the server's
own client, as the cluster's owner.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from borg_lvm.plugin_api import (
    Added,
    Application,
    ApplicationSettings,
    ApplicationType,
    DataPath,
    DiscoveredApplication,
    Probe,
    QuiesceError,
    hookimpl,
)
from borg_lvm_hooks.applications.peers import refuse_foreign
from borg_lvm_hooks.applications.postgresql import backup_mode, psql
from borg_lvm_hooks.applications.postgresql import verify as postgresql_copy
from borg_lvm_hooks.applications.postgresql.drill import PostgreSQLJudge
from borg_lvm_hooks.applications.postgresql.psql import Options
from borg_lvm_hooks.applications.running import servers

BACKUP_MODE = "backup-mode"

# What the server says of itself, as one line of JSON. Source: PostgreSQL documentation, chapters 9.26, 20.2, 54.
FACTS = """
SELECT json_build_object(
  'version', current_setting('server_version'), 'number', current_setting('server_version_num')::int,
  'data', current_setting('data_directory'), 'config', current_setting('config_file'),
  'started', pg_postmaster_start_time()::text, 'recovery', pg_is_in_recovery(),
  'system', (SELECT system_identifier::text FROM pg_control_system()),
  'super', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), 'user', current_user,
  'tablespaces', (SELECT coalesce(json_agg(place ORDER BY place), '[]'::json)
                  FROM (SELECT pg_tablespace_location(oid) AS place FROM pg_tablespace) AS places WHERE place <> ''));
"""
MAY_CHECKPOINT = "SELECT pg_has_role(current_user, 'pg_checkpoint', 'USAGE')::int;"
CHECKPOINT_ROLE_SINCE = 150000


class PostgreSQL(Application):
    """One cluster."""

    def __init__(self, settings: ApplicationSettings) -> None:
        self._options: Options = settings.options
        self._level = settings.level
        self._stack = ExitStack()
        self._session: psql.Session | None = None
        self._facts: Mapping[str, Any] = {}
        self._checkpoint = "0/0"
        self._slot = f"borg_lvm_{os.getpid()}_{secrets.token_hex(4)}"
        self._segment = 0
        self._ended: backup_mode.Ended | None = None

    def probe(self) -> Probe:
        """Connect, and ask the server where everything is."""
        session = self._session = self._session or self._stack.enter_context(psql.connected(self._options))
        facts = self._facts = json.loads(session.query(FACTS))
        refuse_foreign(str(facts["data"]), session.server.uid)
        if self._level == "checkpoint" and not facts["super"]:
            self._refuse_without_checkpoint(session)
        if self._level == BACKUP_MODE:
            means = json.loads(session.query(backup_mode.MEANS))
            backup_mode.refuse_unless_possible(means, facts)
            self._segment = means["segment"]
        notes = [] if facts["config"].startswith(facts["data"] + "/") else [f"its configuration is {facts['config']}"]
        if facts["recovery"]:
            notes.append("it is a standby")
        return Probe(str(facts["version"]), self._paths(facts), tuple(notes))

    def prepare(self) -> Iterator[None]:
        """Have it write out all that is in its memory; backup mode begins with that."""
        assert self._session
        number = self._facts["number"]
        statement = {"checkpoint": "CHECKPOINT;", BACKUP_MODE: backup_mode.begin(number)}.get(self._level)
        if self._level == BACKUP_MODE:
            self._session.query(backup_mode.keep(number, self._slot))
        if statement:
            self._session.begin(statement)
            while not self._session.psql.heard():
                yield
            self._session.answer()
        self._checkpoint = self._session.query("SELECT redo_lsn FROM pg_control_checkpoint();")

    def quiesced(self) -> AbstractContextManager[None]:
        """Do nothing: its files are whole at any instant."""
        return nullcontext()

    def confirm(self) -> str:
        """See that nothing has changed; and end its backup mode."""
        assert self._session
        self._refuse_changes(self._session)
        if self._level != BACKUP_MODE:
            return ""
        answer = json.loads(self._session.query(backup_mode.end(self._facts["number"])))
        self._ended = backup_mode.ended(answer, self._segment)
        return f"backup mode from {self._ended.begin} to {self._ended.end}"

    def _refuse_changes(self, session: psql.Session) -> None:
        """See that it is the same server, with its files in the same places: a new tablespace may lie anywhere."""
        now = json.loads(session.query(FACTS))
        if now["started"] != self._facts["started"]:
            raise QuiesceError("the server was started again meanwhile", remedy="run it again")
        if self._paths(now) != self._paths(self._facts):
            raise QuiesceError("it keeps data elsewhere since it was asked", remedy="run it again")

    def added(self) -> tuple[Added, ...]:
        """Return the label, if the server still had to keep all WAL when that was saved.

        A restore replays all that is in the saved WAL: a tablespace made since the mode's end must be in the run too.
        """
        if not self._ended:
            return ()
        assert self._session
        self._refuse_changes(self._session)
        if self._session.query(backup_mode.held(self._slot)) != "1":
            raise QuiesceError("its slot was dropped before its WAL was saved", remedy="run it again")
        return self._ended.added(str(self._facts["data"]), self._session.server.uid)

    def close(self) -> None:
        """End psql."""
        self._stack.close()

    def verify(self, scratch: str) -> str:
        """See that the copy is of this cluster, as it runs, and holds the checkpoint and the WAL to recover from."""
        assert self._session
        known = postgresql_copy.Known(self._facts["system"], self._checkpoint, self._session.server)
        verified = postgresql_copy.verify(self._facts["data"], known)
        return (
            f"{verified}, {backup_mode.verify(self._facts['data'], self._ended, self._session.server.uid)}"
            if self._ended
            else verified
        )

    def _paths(self, facts: Mapping[str, Any]) -> tuple[DataPath, ...]:
        data = str(facts["data"])
        wal = DataPath(os.path.join(data, "pg_wal"), "WAL", after=self._level == BACKUP_MODE, log=True)
        spaces = (DataPath(str(place), "tablespace") for place in facts["tablespaces"])
        return (DataPath(data, "data", labelled=self._level == BACKUP_MODE), wal, *spaces)

    def _refuse_without_checkpoint(self, session: psql.Session) -> None:
        known = self._facts["number"] >= CHECKPOINT_ROLE_SINCE
        if not known or session.query(MAY_CHECKPOINT) != "1":
            raise QuiesceError(
                f"the role {self._facts['user']} may not do a checkpoint",
                remedy="GRANT pg_checkpoint TO it, or use the level none" if known else "use the level none",
            )


_LEVELS = {
    "checkpoint": "a checkpoint just before the instant, so that a restored cluster starts quickly; nothing is locked",
    "none": "nothing is done to it; its data must be in the snapshots",
    BACKUP_MODE: "in backup mode while its volumes are snapshotted one after the other (`consistency: per-volume`), "
    "its WAL last, on a volume of its own; the label that a restore needs is written into the snapshot",
}


@hookimpl
def borg_lvm_application() -> ApplicationType:
    """Return the kind."""
    apart = frozenset({BACKUP_MODE})
    return ApplicationType(
        levels=_LEVELS,
        options=Options,
        make=PostgreSQL,
        apart=apart,
        recovers=frozenset(_LEVELS) - apart,
        judge=PostgreSQLJudge,
    )


@hookimpl
def borg_lvm_discover() -> list[DiscoveredApplication]:
    """Return the clusters that listen at a socket of their own."""
    places = {path: server.data for server in servers("postgres", "postmaster") for path in server.sockets}
    return [application for path, data in places.items() for application in _application(path, data)]


def _application(path: str, data: tuple[str, ...]) -> Iterator[DiscoveredApplication]:
    directory, _, port = path.rpartition("/.s.PGSQL.")
    if not re.fullmatch(r"[0-9]{1,5}", port):
        return
    usual = Options()
    options: dict[str, Any] = {} if directory == usual.socket else {"socket": directory}
    if int(port) != usual.port:
        options["port"] = int(port)
    yield DiscoveredApplication(f"PostgreSQL listens at {path}", options, identity=("socket", "port"), data=data)
