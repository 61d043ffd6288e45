"""Judges a restored MySQL server. Source: MySQL reference manual, server command options and system variables."""

from __future__ import annotations

from collections.abc import Sequence

from borg_lvm.plugin_api import QuiesceError
from borg_lvm_hooks.applications.mysql.drill import SqlJudge
from borg_lvm_hooks.applications.mysql.layout import Layout

OWN = ("--persisted-globals-load=OFF", "--mysqlx=OFF", "--secure-file-priv=NULL", "--performance-schema=OFF")
"""What only MySQL has: settings in its data directory (`SET PERSIST`) that would be read all the same, a second way to
reach it, and a directory for files of its statements, without which it does not start.
"""


class MySQLJudge(SqlJudge):
    """Judges one server."""

    programs = ("mysqld",)
    clients = ("mysql",)
    parts = ("system tablespace", "redo log", "undo", "doublewrite")
    gtid = "SELECT @@gtid_executed;"

    def refuse_program(self, version: str) -> None:
        """Refuse what is not MySQL: Debian's MariaDB brings a program of that name. Raises: QuiesceError."""
        if "MariaDB" in version:
            raise QuiesceError(f"{self.programs[0]} is MariaDB's: {version.strip()}")

    def switches(self, layout: Layout) -> Sequence[str]:
        """Return what only MySQL has, and where tables are that its recovery must find."""
        elsewhere = layout.elsewhere()
        return (*OWN, *([f"--innodb-directories={';'.join(elsewhere)}"] if elsewhere else []))
