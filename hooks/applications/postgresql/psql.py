"""A session of psql, the server's own client, as the cluster's owner: started only for the server that is meant."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from borg_lvm.plugin_api import AbsolutePath, Account, QuiesceError, Text, Whole, client_process, key
from borg_lvm_hooks.applications.clients.client import Client
from borg_lvm_hooks.applications.peers import held

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
_NAME = Text("a name", r"[^\u0000-\u001f]+")


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
        "A service of pg_service.conf, the server's own file or that of the operating system's user: its "
        "user, database, password and the like are used in the place of role and database. If it has a host or a "
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


@dataclass(frozen=True)
class Session:
    """A connection to a cluster, and the account of the server, which the cluster belongs to."""

    psql: client_process.Child
    server: Account

    def query(self, statement: str) -> str:
        """Have one statement done; returns its only line. Raises: QuiesceError with the server's words."""
        self.begin(statement)
        return self.answer()

    def begin(self, statement: str) -> None:
        """Have a statement begun that takes long: it is done when `psql.heard`. Raises: QuiesceError."""
        self.psql.say(f"{statement}\n\\echo {MARK}\n")

    def answer(self) -> str:
        """Return the line of what was begun. Raises: as `query`."""
        return "".join(self.psql.lines_until(MARK, CONNECT_TIMEOUT))


@contextmanager
def connected(options: Options) -> Iterator[Session]:
    """Have a session with the cluster of an entry for the length of the block. Raises: AbsentError, QuiesceError."""
    server = _listening(f"{options.socket}/.s.PGSQL.{options.port}")
    user = _account(options.os_user) if options.os_user else server
    env = {"HOME": user.pw_dir, "PGOPTIONS": OPTIONS, "PGCONNECT_TIMEOUT": "20", **_target(options, user.pw_name)}
    with PSQL.started(env=env, user=Account(user.pw_uid, user.pw_gid)) as psql:
        session = Session(psql, Account(server.pw_uid, server.pw_gid))
        _refuse_elsewhere(options, json.loads(session.query(PLACE)))
        yield session


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


def _target(options: Options, user: str) -> dict[str, str]:
    """Return where psql is to connect to, in its environment: there a service says more than all others."""
    target = {"PGHOST": options.socket, "PGPORT": str(options.port), "PGDATABASE": options.database}
    target["PGUSER"] = options.role or user
    return target | ({"PGSERVICE": options.service} if options.service else {})


def _refuse_elsewhere(options: Options, service: Mapping[str, Any]) -> None:
    """Refuse a service that leads to another server than the one whose socket and owner we know."""
    place = os.path.realpath(service["host"]), int(service["port"])
    if not service["local"] or place != (os.path.realpath(options.socket), options.port):
        there = service["host"] if service["local"] else "an address of a network"
        raise QuiesceError(
            f"the service {options.service} leads to {there}, port {service['port']}, and this entry is for "
            f"{options.socket}, port {options.port}",
            remedy="set socket to the service's host, which must be a socket's directory, and port to its port",
        )
