"""Quiesces MariaDB: commits, and all writes to tables without transactions, wait while the instant passes.

InnoDB recovers by itself from what a power cut leaves; Aria and MyISAM tables need this, and so does a known position
in the binary log. It is MariaDB's own way for storage snapshots, BACKUP STAGE, which long statements on InnoDB do not
hold up. One session of its own client holds the lock: it is released when that ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from borg_lvm import child, safety
from borg_lvm.applications import Application, DataPath, Found, Intent, Kind, Probe, Wish
from borg_lvm.config.kinds import AbsolutePath
from borg_lvm.config.sections import key
from borg_lvm.errors import BusyError, QuiesceError
from borg_lvm.plugins import hookimpl

from . import mariadb_copy
from .listening import refuse_unless_listening
from .running import servers

TIMEOUT = 30.0
OLDEST = (10, 6)
MARK = "borg-lvm-end"
LOCK_WAIT = "ERROR 1205"
"""What the client says when the wait for a lock has come to its limit (ER_LOCK_WAIT_TIMEOUT)."""

# Where the server keeps what. Source: MariaDB server documentation, system variables and information_schema.
FACTS = """
SELECT JSON_OBJECT('version', @@version, 'id', CONNECTION_ID(), 'data', @@datadir,
  'redo log', @@innodb_log_group_home_dir, 'system tablespace', COALESCE(@@innodb_data_home_dir, ''),
  'undo', COALESCE(@@innodb_undo_directory, ''), 'Aria log', COALESCE(@@aria_log_dir_path, ''),
  'binary log', COALESCE(@@log_bin_basename, ''), 'relay log', COALESCE(@@relay_log_basename, ''),
  'elsewhere', (SELECT COALESCE(GROUP_CONCAT(filename SEPARATOR '\\n'), '')
                FROM information_schema.innodb_sys_tablespaces WHERE filename LIKE '/%'));
"""
FOLDERS = ("redo log", "system tablespace", "undo", "Aria log")
BASES = ("binary log", "relay log")
MAY_LOCK = """
SELECT COUNT(*) FROM information_schema.user_privileges
WHERE privilege_type = 'RELOAD' AND grantee = CONCAT("'", REPLACE(CURRENT_USER(), '@', "'@'"), "'");
"""
STATUS = "SHOW MASTER STATUS;"


@dataclass(frozen=True)
class Options:
    """Where the server is, and who we are to it."""

    socket: str = key(AbsolutePath(), "/run/mysqld/mysqld.sock", "The server's socket.", "/run/mysqld/shop.sock")
    defaults_file: str = key(
        AbsolutePath(),
        "",
        "A file of the client's options (user and password), if root is not let in by the socket alone. It must belong "
        "to root, and nobody else may be able to read it or to change it.",
        "/etc/borg-lvm/mariadb.cnf",
    )


class MariaDB(Application):
    """One server."""

    def __init__(self, wish: Wish) -> None:
        self._options: Options = wish.options
        self._wish = wish
        self._stack = ExitStack()
        self._client: child.Child | None = None
        self._facts: Mapping[str, Any] = {}
        self._checkpoint = self._current = 0
        if self._options.defaults_file:
            safety.refuse_readable_by_others(self._options.defaults_file)

    def probe(self) -> Probe:
        """Connect, and ask the server where everything is."""
        self._client = self._client or self._connect()
        self._facts = json.loads(self._query(FACTS)[0])
        version = str(self._facts["version"])
        if "MariaDB" not in version or tuple(map(int, version.split(".")[:2])) < OLDEST:
            raise QuiesceError(f"this is {version}; only MariaDB from 10.6 on tells what is needed here")
        if self._wish.level == "lock" and self._query(MAY_LOCK) != ["1"]:
            raise QuiesceError("the user of this session has no privilege RELOAD", remedy="grant it, on *.*")
        if self._wish.level == "lock" and self._facts["binary log"]:
            self._query(STATUS)  # which is refused now, if ever
        self._checkpoint = self._lsn("LAST_CHECKPOINT")
        return Probe(version, _paths(self._facts))

    def intents(self) -> Sequence[Intent]:
        """Have the guardian end the client, and so the session that holds the lock."""
        assert self._client
        return [self._client.intent] if self._wish.level == "lock" else []

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Hold the lock. The server gives it up by itself when it hears nothing from us for too long."""
        if self._wish.level != "lock":
            yield
            return
        deadline = self._wish.deadline
        # Who waits for such a lock holds up others: not for longer than half of the time.
        self._query(f"SET SESSION lock_wait_timeout = {max(1, int(deadline / 2))}, wait_timeout = {int(deadline) + 1};")
        for stage in ("START", "BLOCK_COMMIT"):
            try:
                self._query(f"BACKUP STAGE {stage};")
            except QuiesceError as error:
                if LOCK_WAIT in error.message:
                    raise BusyError(error.message) from error
                raise
        try:
            yield
        finally:
            self._query("BACKUP STAGE END;")

    def confirm(self) -> str:
        """See that it is the same session, which has the lock until its end; read the position in the binary log."""
        now = json.loads(self._query(FACTS)[0])
        if now["id"] != self._facts["id"]:
            raise QuiesceError("the session that held the lock has been replaced by another")
        if _paths(now) != _paths(self._facts):
            raise QuiesceError("it keeps data elsewhere since it was asked", remedy="run it again")
        self._current = self._lsn("CURRENT")
        if self._wish.level != "lock":
            return ""
        return ", ".join([*(self._logged() if now["binary log"] else []), *self._replicated()])

    def _logged(self) -> list[str]:
        (status,) = self._query(STATUS)
        (gtid,) = self._query("SELECT @@gtid_binlog_pos;")
        name, position = status.split("\t")[:2]
        return [f"binary log {name}, position {position}, GTID {gtid}"]

    def _replicated(self) -> list[str]:
        """Return how far a replica has come in what it replicates: where its copy goes on."""
        (gtid,) = self._query("SELECT @@gtid_slave_pos;")
        return [f"replicated up to GTID {gtid}"] if gtid else []

    def _lsn(self, which: str) -> int:
        """Return a place in InnoDB's log; 0 if there is none."""
        return int("".join(self._query(mariadb_copy.LSN.format(which))) or 0)

    def verify(self, scratch: str) -> str:
        """See that the copy's redo log is that of this server, as it ran."""
        if not self._checkpoint or not mariadb_copy.is_known(str(self._facts["version"])):
            return ""
        folder = os.path.join(str(self._facts["data"]), str(self._facts["redo log"]))
        return mariadb_copy.verify(folder, mariadb_copy.Known(self._checkpoint, self._current))

    def close(self) -> None:
        """End the client."""
        self._stack.close()

    def _connect(self) -> child.Child:
        refuse_unless_listening(self._options.socket)
        own = self._options.defaults_file
        argv = ["mariadb", *([f"--defaults-extra-file={own}"] if own else []), "--batch", "--skip-column-names"]
        argv += ["--raw", "--unbuffered", "--skip-reconnect", "--connect-timeout=20"]
        argv.append(f"--socket={self._options.socket}")
        return self._stack.enter_context(child.started(argv, env={"HOME": "/root"}))

    def _query(self, statement: str) -> list[str]:
        """Have one statement done; returns its rows. Errors: QuiesceError with the server's words."""
        assert self._client
        self._client.say(f"{statement}\nSELECT '{MARK}';\n")
        return self._client.lines_until(MARK, self._wish.deadline + TIMEOUT)


def _paths(facts: Mapping[str, Any]) -> tuple[DataPath, ...]:
    data = str(facts["data"])
    found = {os.path.normpath(data): "data"}
    for what in FOLDERS:
        found.setdefault(os.path.normpath(os.path.join(data, str(facts[what]))), what)
    for what in BASES:
        if facts[what]:
            found.setdefault(os.path.dirname(os.path.join(data, str(facts[what]))), what)
    for path in filter(None, str(facts["elsewhere"]).split("\n")):
        if not path.startswith(f"{data.rstrip('/')}/"):
            found.setdefault(path, "table")
    return tuple(DataPath(path, what) for path, what in found.items())


_LEVELS = {
    "lock": "commits, and writes to Aria and MyISAM tables, wait while the instant passes (BACKUP STAGE BLOCK_COMMIT)",
    "none": "nothing but looking where its data is: enough for InnoDB tables",
}


@hookimpl
def borg_lvm_application() -> Kind:
    """Return the kind."""
    return Kind(levels=_LEVELS, options=Options, make=MariaDB, recovers=frozenset({"none"}))


@hookimpl
def borg_lvm_discover() -> list[Found]:
    """Return the servers that listen at a socket; a MySQL server has another name."""
    places = [path for server in servers("mariadbd") for path in server.sockets]
    return [
        Found(
            f"MariaDB listens at {path}; the level none is enough when all tables are InnoDB's",
            {} if path == Options().socket else {"socket": path},
            identity=("socket",),
        )
        for path in dict.fromkeys(places)
    ]
