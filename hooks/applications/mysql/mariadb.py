"""Quiesces MariaDB: commits, and all writes to tables without transactions, wait while the instant passes.

InnoDB recovers by itself from what a power cut leaves; Aria and MyISAM tables need this, and so does a known position
in the binary log. It is MariaDB's own way for storage snapshots, BACKUP STAGE, which long statements on InnoDB do not
hold up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from borg_lvm.plugin_api import ApplicationSettings, ApplicationType, DiscoveredApplication, QuiesceError, hookimpl
from borg_lvm_hooks.applications.mysql import verify_mariadb
from borg_lvm_hooks.applications.mysql.drill_mariadb import MariaJudge
from borg_lvm_hooks.applications.mysql.sql_server import Options, SqlServer, discovered, numbers

OLDEST = (10, 6)

# Where the server keeps what. Source: MariaDB server documentation, system variables and information_schema.
FACTS = """
SELECT JSON_OBJECT('version', @@version, 'id', CONNECTION_ID(), 'data', @@datadir,
  'system files', @@innodb_data_file_path,
  'redo log', @@innodb_log_group_home_dir, 'system tablespace', COALESCE(@@innodb_data_home_dir, ''),
  'undo', COALESCE(@@innodb_undo_directory, ''), 'Aria log', COALESCE(@@aria_log_dir_path, ''),
  'binary log', COALESCE(@@log_bin_basename, ''), 'relay log', COALESCE(@@relay_log_basename, ''),
  'elsewhere', (SELECT COALESCE(GROUP_CONCAT(filename SEPARATOR '\\n'), '')
                FROM information_schema.innodb_sys_tablespaces WHERE filename LIKE '/%'));
"""
MAY_LOCK = """
SELECT COUNT(*) FROM information_schema.user_privileges
WHERE privilege_type = 'RELOAD' AND grantee = CONCAT("'", REPLACE(CURRENT_USER(), '@', "'@'"), "'");
"""
STATUS = "SHOW MASTER STATUS;"


class MariaDB(SqlServer):
    """One server."""

    client = "mariadb"
    facts = FACTS
    directories = ("redo log", "system tablespace", "undo", "Aria log")

    def __init__(self, settings: ApplicationSettings) -> None:
        super().__init__(settings)
        self._checkpoint = self._current = 0

    def refuse_version(self, version: str) -> None:
        """Refuse what is not MariaDB from 10.6 on."""
        if "MariaDB" not in version:
            raise QuiesceError(f"this is {version}, which is not MariaDB", remedy="name the plugin mysql instead")
        if numbers(version) < OLDEST:
            raise QuiesceError(f"this is {version}; only MariaDB 10.6 and newer are supported")

    def refuse(self) -> None:
        """Refuse a user who may not lock or not read the position."""
        if self.locks and self.query(MAY_LOCK) != ["1"]:
            raise QuiesceError("the user of this session has no privilege RELOAD", remedy="grant it, on *.*")
        if self.locks and self.known["binary log"]:
            self.query(STATUS)  # which is refused now, if ever
        self._checkpoint = self._lsn("LAST_CHECKPOINT")

    def elsewhere(self, facts: Mapping[str, Any]) -> Sequence[str]:
        """Return its tablespaces' files, those of the system tablespace too: each may lie on a disk of its own."""
        known = filter(None, str(facts["elsewhere"]).split("\n"))
        parts = (part.partition(":")[0].strip() for part in str(facts["system files"]).split(";"))
        home = str(facts["system tablespace"])
        return [*known, *(os.path.join(home, part) for part in parts if part)]

    def locking(self) -> Sequence[str]:
        """Block commits."""
        return ("BACKUP STAGE START;", "BACKUP STAGE BLOCK_COMMIT;")

    def unlocking(self) -> str:
        """Let them go on."""
        return "BACKUP STAGE END;"

    def position(self) -> str:
        """Return the position in the binary log, and the GTID; of a replica also how far it has come."""
        return ", ".join([*(self._logged() if self.known["binary log"] else []), *self._replicated()])

    def _logged(self) -> list[str]:
        (status,) = self.query(STATUS)
        (gtid,) = self.query("SELECT @@gtid_binlog_pos;")
        name, position = status.split("\t")[:2]
        return [f"binary log {name}, position {position}, GTID {gtid}"]

    def _replicated(self) -> list[str]:
        """Return how far a replica has come in what it replicates: where its copy goes on."""
        (gtid,) = self.query("SELECT @@gtid_slave_pos;")
        return [f"replicated up to GTID {gtid}"] if gtid else []

    def _lsn(self, which: str) -> int:
        """Return a place in InnoDB's log; 0 if there is none."""
        return int("".join(self.query(verify_mariadb.LSN.format(which))) or 0)

    def confirm(self) -> str:
        """See as well how far its log has come: the copy's must not be newer."""
        confirmed = super().confirm()
        self._current = self._lsn("CURRENT")
        return confirmed

    def verify(self, scratch: str) -> str:
        """See that the copy's redo log is that of this server, as it ran."""
        if not self._checkpoint or not verify_mariadb.is_known(str(self.known["version"])):
            return ""
        directory = os.path.join(str(self.known["data"]), str(self.known["redo log"]))
        return verify_mariadb.verify(directory, verify_mariadb.Known(self._checkpoint, self._current, self.owner))


_LEVELS = {
    "lock": "commits, and writes to Aria and MyISAM tables, wait while the instant passes (BACKUP STAGE BLOCK_COMMIT)",
    "none": "nothing is done to it; its data must be in the snapshots: enough for InnoDB tables",
}


@hookimpl
def borg_lvm_application() -> ApplicationType:
    """Return the kind."""
    return ApplicationType(
        levels=_LEVELS, options=Options, make=MariaDB, recovers=frozenset({"none"}), judge=MariaJudge
    )


@hookimpl
def borg_lvm_discover() -> list[DiscoveredApplication]:
    """Return the servers that listen at a socket; a MySQL server has another name."""
    return discovered("MariaDB", "the level none is enough when all tables are InnoDB's", "mariadbd")
