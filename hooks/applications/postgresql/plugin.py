"""Prepares PostgreSQL clusters: a checkpoint just before the instant, or backup mode; nothing is locked.

All of a cluster at one instant is what a power cut would leave, from which PostgreSQL recovers by itself; the
checkpoint keeps that recovery short. Backup mode is for a cluster whose volumes cannot be of one instant, and for no
other: with its label, a snapshot taken before the mode's end does not start. We hold one session of psql, the server's
own client, as the cluster's owner.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from borg_lvm.plugin_api import (
    AbsolutePath,
    Account,
    Added,
    Application,
    ApplicationSettings,
    ApplicationType,
    DataPath,
    DiscoveredApplication,
    Probe,
    QuiesceError,
    Text,
    Whole,
    client_process,
    hookimpl,
    key,
)
from borg_lvm_hooks.applications.clients import Client
from borg_lvm_hooks.applications.peers import held, refuse_foreign
from borg_lvm_hooks.applications.postgresql import backup_mode
from borg_lvm_hooks.applications.postgresql import verify as postgresql_copy
from borg_lvm_hooks.applications.running import servers

CONNECT_TIMEOUT = 30.0
PLACE = "SELECT json_build_object('host', :'HOST', 'port', :'PORT', 'local', inet_server_addr() IS NULL);"
"""Where psql has come to, in its own words."""
MARK = "borg-lvm-end"
PSQL = Client(
    "psql",
    ("--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--no-password", "--set", "ON_ERROR_STOP=1"),
    "postgresql",
    "psycopg",
    "psycopg[binary]",
)
OPTIONS = "-c client_min_messages=error -c search_path=pg_catalog"
"""No function of a user's may take the place of the server's own: we may be a superuser."""
BACKUP_MODE = "backup-mode"
_NAME = Text("a name", r"[^\u0000-\u001f]+")

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


@dataclass(frozen=True)
class Options:
    """Where the cluster is and who we are to it. A password comes from the ~/.pgpass of the operating system's user."""

    socket: str = key(
        AbsolutePath(), "/run/postgresql", "The directory of the cluster's socket.", "/var/lib/postgresql/run"
    )
    port: int = key(
        Whole(1, 65535), 5432, "The cluster's port, which is part of its socket's name, also without a network.", 5433
    )
    role: str = key(
        Text("the name of a role", r"[^\u0000-\u001f]*"),
        "",
        "The database role; that of the operating system's user if it is not given. It needs to be a superuser, or a "
        "member of pg_read_all_settings and, for the level checkpoint, of pg_checkpoint (PostgreSQL 15 or newer); for "
        "backup-mode it needs REPLICATION, and EXECUTE on pg_backup_start and pg_backup_stop.",
        "backup",
    )
    database: str = key(_NAME, "postgres", "The database to connect to.", "template1")
    service: str = key(
        Text("the name of a service", r"[^\u0000-\u001f]*"),
        "",
        "A service of pg_service.conf, the server's own file or that of the operating system's user: what it tells of "
        "user, database, password and the like is used in the place of role and database. If it tells of a host or a "
        "port, these must be those of socket and port.",
        "backup",
    )
    os_user: str = key(
        Text("the name of a user", r"[^\u0000-\u001f]*"),
        "",
        "The user of the operating system as which psql is run; the cluster's own, who listens at the socket, if it is "
        "not given.",
        "backup",
    )


class PostgreSQL(Application):
    """One cluster."""

    def __init__(self, wish: ApplicationSettings) -> None:
        self._options: Options = wish.options
        self._level = wish.level
        self._stack = ExitStack()
        self._psql: client_process.Child | None = None
        self._facts: Mapping[str, Any] = {}
        self._checkpoint = "0/0"
        self._slot = f"borg_lvm_{os.getpid()}_{secrets.token_hex(4)}"
        self._segment = 0
        self._ended: backup_mode.Ended | None = None
        self._account: Account | None = None

    def probe(self) -> Probe:
        """Connect, and ask the server where everything is."""
        psql = self._psql = self._psql or self._connect()
        facts = self._facts = json.loads(_query(psql, FACTS, CONNECT_TIMEOUT))
        assert self._account
        refuse_foreign(str(facts["data"]), self._account.uid)
        if self._level == "checkpoint" and not facts["super"]:
            self._refuse_without_checkpoint(psql)
        if self._level == BACKUP_MODE:
            means = json.loads(_query(psql, backup_mode.MEANS, CONNECT_TIMEOUT))
            backup_mode.refuse_unless_possible(means, facts)
            self._segment = means["segment"]
        notes = [] if facts["config"].startswith(facts["data"] + "/") else [f"its configuration is {facts['config']}"]
        if facts["recovery"]:
            notes.append("it is a standby")
        return Probe(str(facts["version"]), self._paths(facts), tuple(notes))

    def prepare(self) -> Iterator[None]:
        """Have it write out all that is in its memory; backup mode begins with that."""
        assert self._psql
        number = self._facts["number"]
        statement = {"checkpoint": "CHECKPOINT;", BACKUP_MODE: backup_mode.begin(number)}.get(self._level)
        if self._level == BACKUP_MODE:
            _query(self._psql, backup_mode.keep(number, self._slot), CONNECT_TIMEOUT)
        if statement:
            self._psql.say(_marked(statement))
            while not self._psql.heard():
                yield
            self._psql.lines_until(MARK, CONNECT_TIMEOUT)
        self._checkpoint = _query(self._psql, "SELECT redo_lsn FROM pg_control_checkpoint();", CONNECT_TIMEOUT)

    def quiesced(self) -> AbstractContextManager[None]:
        """Do nothing: its files are whole at any instant."""
        return nullcontext()

    def confirm(self) -> str:
        """See that nothing has changed; and end its backup mode."""
        assert self._psql
        self._refuse_changes(self._psql)
        if self._level != BACKUP_MODE:
            return ""
        told = json.loads(_query(self._psql, backup_mode.end(self._facts["number"]), CONNECT_TIMEOUT))
        self._ended = backup_mode.ended(told, self._segment)
        return f"backup mode from {self._ended.begin} to {self._ended.end}"

    def _refuse_changes(self, psql: client_process.Child) -> None:
        """See that it is the same server, with its files in the same places: a new tablespace may lie anywhere."""
        now = json.loads(_query(psql, FACTS, CONNECT_TIMEOUT))
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
        assert self._psql
        assert self._account
        self._refuse_changes(self._psql)
        if _query(self._psql, backup_mode.held(self._slot), CONNECT_TIMEOUT) != "1":
            raise QuiesceError("its slot was dropped before its WAL was saved", remedy="run it again")
        return self._ended.added(str(self._facts["data"]), self._account.uid)

    def close(self) -> None:
        """End psql."""
        self._stack.close()

    def verify(self, scratch: str) -> str:
        """See that the copy is of this cluster, as it runs, and holds the checkpoint and the WAL to recover from."""
        assert self._account
        known = postgresql_copy.Known(self._facts["system"], self._checkpoint, self._account)
        found = postgresql_copy.verify(self._facts["data"], known)
        return (
            f"{found}, {backup_mode.verify(self._facts['data'], self._ended, self._account.uid)}"
            if self._ended
            else found
        )

    def _paths(self, facts: Mapping[str, Any]) -> tuple[DataPath, ...]:
        data = str(facts["data"])
        wal = DataPath(os.path.join(data, "pg_wal"), "WAL", after=self._level == BACKUP_MODE, log=True)
        spaces = (DataPath(str(place), "tablespace") for place in facts["tablespaces"])
        return (DataPath(data, "data", labelled=self._level == BACKUP_MODE), wal, *spaces)

    def _connect(self) -> client_process.Child:
        owner = _listening(f"{self._options.socket}/.s.PGSQL.{self._options.port}")
        self._account = Account(owner.pw_uid, owner.pw_gid)
        user = _account(self._options.os_user) if self._options.os_user else owner
        env = {"HOME": user.pw_dir, "PGOPTIONS": OPTIONS, "PGCONNECT_TIMEOUT": "20", **self._target(user.pw_name)}
        account = Account(user.pw_uid, user.pw_gid)
        psql = self._stack.enter_context(PSQL.started(env=env, user=account))
        found = json.loads(_query(psql, PLACE, CONNECT_TIMEOUT))
        self._refuse_elsewhere(found)
        return psql

    def _target(self, user: str) -> dict[str, str]:
        """Return where psql is to connect to, in its environment: there a service says more than all others."""
        options = self._options
        target = {"PGHOST": options.socket, "PGPORT": str(options.port), "PGDATABASE": options.database}
        target["PGUSER"] = options.role or user
        return target | ({"PGSERVICE": options.service} if options.service else {})

    def _refuse_elsewhere(self, found: Mapping[str, Any]) -> None:
        """Refuse a service that leads to another server than the one whose socket and owner we know."""
        options = self._options
        place = os.path.realpath(found["host"]), int(found["port"])
        if not found["local"] or place != (os.path.realpath(options.socket), options.port):
            there = found["host"] if found["local"] else "an address of a network"
            raise QuiesceError(
                f"the service {options.service} leads to {there}, port {found['port']}, and this entry is for "
                f"{options.socket}, port {options.port}",
                remedy="give the service's host, which must be the folder of a socket, and its port as socket and port",
            )

    def _refuse_without_checkpoint(self, psql: client_process.Child) -> None:
        known = self._facts["number"] >= CHECKPOINT_ROLE_SINCE
        if not known or _query(psql, MAY_CHECKPOINT, CONNECT_TIMEOUT) != "1":
            raise QuiesceError(
                f"the role {self._facts['user']} may not do a checkpoint",
                remedy="GRANT pg_checkpoint TO it, or use the level none" if known else "use the level none",
            )


def _query(psql: client_process.Child, statement: str, seconds: float) -> str:
    """Have one statement done; returns its only line. Raises: QuiesceError with the server's words."""
    psql.say(_marked(statement))
    return "".join(psql.lines_until(MARK, seconds))


def _marked(statement: str) -> str:
    return f"{statement}\n\\echo {MARK}\n"


def _listening(place: str) -> pwd.struct_passwd:
    """Return who listens at a socket, as the kernel says. Raises: AbsentError; QuiesceError if it is root.

    psql becomes that user, so he gains nothing by leading it elsewhere; but root's passwords are not for anybody.
    """
    with held(place, "pg_lsclusters") as peer:
        if peer.uid == 0:
            raise QuiesceError(f"it is root who listens at {place}, and no PostgreSQL server runs as root")
    try:
        return pwd.getpwuid(peer.uid)
    except KeyError as error:
        raise QuiesceError(f"the user {peer.uid}, who listens at {place}, has no name here") from error


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise QuiesceError(f"there is no user {name!r} (os_user)") from error


_LEVELS = {
    "checkpoint": "a checkpoint just before the instant, so that a restored copy starts quickly; nothing is locked",
    "none": "nothing but looking where its data is",
    BACKUP_MODE: "in backup mode while its volumes are snapshotted one after the other (`consistency: per-volume`), "
    "its WAL last, on a volume of its own; the label that a restore needs is put into the copy",
}


@hookimpl
def borg_lvm_application() -> ApplicationType:
    """Return the kind."""
    apart = frozenset({BACKUP_MODE})
    return ApplicationType(
        levels=_LEVELS, options=Options, make=PostgreSQL, apart=apart, recovers=frozenset(_LEVELS) - apart
    )


@hookimpl
def borg_lvm_discover() -> list[DiscoveredApplication]:
    """Return the clusters that listen at a socket of their own."""
    places = {path: server.data for server in servers("postgres", "postmaster") for path in server.sockets}
    return [found for path, data in places.items() for found in _found(path, data)]


def _found(path: str, data: tuple[str, ...]) -> Iterator[DiscoveredApplication]:
    folder, _, port = path.rpartition("/.s.PGSQL.")
    if not re.fullmatch(r"[0-9]{1,5}", port):
        return
    usual = Options()
    options: dict[str, Any] = {} if folder == usual.socket else {"socket": folder}
    if int(port) != usual.port:
        options["port"] = int(port)
    yield DiscoveredApplication(f"PostgreSQL listens at {path}", options, identity=("socket", "port"), data=data)
