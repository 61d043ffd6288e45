"""Quiesces MySQL: no table is made, changed or removed while the instant passes; commits wait only where they must.

InnoDB recovers by itself from what a power cut leaves, so LOCK INSTANCE FOR BACKUP is enough for it, and holds up
nobody but who changes tables. Tables without transactions, or a known position in the binary log, need FLUSH TABLES
WITH READ LOCK: a session that waits for that behind a long statement holds up all others, so it looks for such first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from borg_lvm.plugin_api import ApplicationType, BusyError, DiscoveredApplication, QuiesceError, hookimpl
from borg_lvm_hooks.applications.mysql.drill_mysql import MySQLJudge
from borg_lvm_hooks.applications.mysql.sql_server import Options, SqlServer, discovered, numbers

OLDEST = (8, 0, 22)
STATUS_RENAMED = (8, 2)
READ_LOCK = "read-lock"

# Where the server keeps what. Source: MySQL reference manual, server system variables, INNODB_DATAFILES.
FACTS = """
SELECT JSON_OBJECT('version', VERSION(), 'id', CONNECTION_ID(), 'data', @@datadir,
  'redo log', @@innodb_log_group_home_dir, 'system tablespace', @@innodb_data_home_dir,
  'undo', @@innodb_undo_directory, 'doublewrite', @@innodb_doublewrite_dir,
  'binary log', @@log_bin_basename, 'relay log', @@relay_log_basename,
  'elsewhere', (SELECT JSON_ARRAYAGG(path) FROM information_schema.innodb_datafiles));
"""
MAY_LOCK = ("BACKUP_ADMIN",)
MAY_READ_LOCK = ("RELOAD", "FLUSH_TABLES")
MAY_ASK = ("REPLICATION CLIENT",)
SHOWN = 60  # characters of a statement that lasts


class MySQL(SqlServer):
    """One server."""

    client = "mysql"
    facts = FACTS
    directories = ("redo log", "system tablespace", "undo")

    @property
    def _reads_only(self) -> bool:
        """Whether nobody may write: where that is wished, or tables without transactions would not be whole."""
        return self.settings.level == READ_LOCK or (self.locks and bool(self.known["plain"]))

    def refuse_version(self, version: str) -> None:
        """Refuse what is not MySQL from 8.0.22 on."""
        if "MariaDB" in version:
            raise QuiesceError(f"this is {version}, which is not MySQL", remedy="name the plugin mariadb instead")
        if numbers(version) < OLDEST:
            raise QuiesceError(f"this is {version}; only MySQL 8.0.22 and newer are supported")

    def refuse(self) -> None:
        """Refuse a user who may not do what is needed."""
        if not self.locks:
            return
        wanted: list[tuple[str, ...]] = [MAY_LOCK]
        wanted += [MAY_READ_LOCK] if self._reads_only else []
        wanted += [MAY_ASK] if self._reads_only and self.known["binary log"] else []
        given = granted(self.query("SHOW GRANTS;"))
        for rights in wanted:
            if given.isdisjoint(rights):
                raise QuiesceError(f"the user of this session has no privilege {rights[0]}", remedy="grant it, on *.*")

    def locking(self) -> Sequence[str]:
        """Lock the instance; and all tables, where that is needed and nobody would have to wait for long."""
        if not self._reads_only:
            return ("LOCK INSTANCE FOR BACKUP;",)
        lasting = longest(self.query("SHOW PROCESSLIST;"))
        if lasting.seconds >= max(1.0, self.settings.deadline / 4):
            raise BusyError(f"all would have to wait for a statement of {lasting.seconds:g} s so far: {lasting.text}")
        return ("LOCK INSTANCE FOR BACKUP;", "FLUSH TABLES WITH READ LOCK;")

    def unlocking(self) -> str:
        """Let all go on."""
        return "UNLOCK TABLES; UNLOCK INSTANCE;"

    def refuse_change(self, now: Mapping[str, Any]) -> None:
        """Refuse a table without transactions that has come since it was asked."""
        if self.locks and not self._reads_only and now["plain"]:
            raise QuiesceError("a table without transactions has been made since it was asked", remedy="run it again")

    def position(self) -> str:
        """Return the position in the binary log, and the GTIDs; nothing where commits went on."""
        if not (self._reads_only and self.known["binary log"]):
            return ""
        name = "BINARY LOG" if numbers(str(self.known["version"])) >= STATUS_RENAMED else "MASTER"
        # The GTIDs of each server are on a line of their own.
        log, position = self.query(f"SHOW {name} STATUS;")[0].split("\t")[:2]
        gtid = "".join(self.query("SELECT @@gtid_executed;"))
        return f"binary log {log}, position {position}" + (f", GTID {gtid}" if gtid else "")

    def elsewhere(self, facts: Mapping[str, Any]) -> Sequence[str]:
        """Return the files of tables that the server itself knows, and the doublewrite files' directory.

        A relative name of that is not the directory's own, which is in the data directory in any case.
        """
        doublewrite = str(facts["doublewrite"] or "")
        return [*(facts["elsewhere"] or ()), *([doublewrite] if os.path.isabs(doublewrite) else [])]


@dataclass(frozen=True)
class Statement:
    """A statement that somebody waits for, and for how many seconds so far."""

    seconds: float = 0.0
    text: str = ""


def longest(processes: Sequence[str]) -> Statement:
    """Return the statement that has been running for longest, of the rows of SHOW PROCESSLIST (that one left out).

    A statement may have line breaks, so a row may go on in lines that are none. A replica's own threads are left
    out: waiting for something to do counts as a statement's time there.
    """
    rows = [line.split("\t", 7) for line in processes]
    statements = [
        Statement(float(row[5]), row[7][:SHOWN])
        for row in rows
        if len(row) == 8
        and row[1] != "system user"
        and row[4] in ("Query", "Execute")
        and row[5].isdecimal()
        and row[7] not in ("SHOW PROCESSLIST", "NULL")
    ]
    return max(statements, key=lambda statement: statement.seconds, default=Statement())


def granted(grants: Sequence[str]) -> set[str]:
    """Return the privileges on everything, of the rows of SHOW GRANTS: `GRANT A, B ON *.* TO …`, roles' among them."""
    everywhere = [line.removeprefix("GRANT ").partition(" ON *.* ")[0] for line in grants if " ON *.* " in line]
    given = {right.strip() for rights in everywhere for right in rights.split(",")}
    return given | {*MAY_LOCK, *MAY_READ_LOCK, *MAY_ASK} if "ALL PRIVILEGES" in given else given


_LEVELS = {
    "lock": "no table is made, changed or removed (LOCK INSTANCE FOR BACKUP); where MyISAM, CSV or ARCHIVE tables are, "
    "nobody writes either, as read-lock",
    READ_LOCK: "nobody writes while the instant passes (FLUSH TABLES WITH READ LOCK), so its place in the binary log "
    "is known",
    "none": "nothing is done to it; its data must be in the snapshots: enough for InnoDB tables",
}


@hookimpl
def borg_lvm_application() -> ApplicationType:
    """Return the kind."""
    recovers = frozenset({"none"})
    return ApplicationType(levels=_LEVELS, options=Options, make=MySQL, recovers=recovers, judge=MySQLJudge)


@hookimpl
def borg_lvm_discover() -> list[DiscoveredApplication]:
    """Return the servers that listen at a socket."""
    return discovered("MySQL", "the level none is enough when all tables are InnoDB's", "mysqld")
