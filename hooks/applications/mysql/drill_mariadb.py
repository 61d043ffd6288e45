"""Judges a restored MariaDB server. Source: MariaDB server documentation, mariadbd options, INNODB_SYS_TABLES."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from borg_lvm.plugin_api import QuiesceError
from borg_lvm_hooks.applications.mysql.drill import Ask, SqlJudge
from borg_lvm_hooks.applications.mysql.layout import Layout

KNOWN_TO_INNODB = """
SELECT DISTINCT HEX(SUBSTRING_INDEX(name, '#', 1)) FROM information_schema.innodb_sys_tables WHERE name LIKE '%/%';
"""
"""Tables by the names of their files; of one with partitions the part before these."""
OF_AN_INDEX = re.compile(r"FTS_[0-9a-f]{16}_")
"""How InnoDB names the tables of a full-text index, which have no file of the server's."""


class MariaJudge(SqlJudge):
    """Judges one server."""

    programs = ("mariadbd",)
    clients = ("mariadb",)
    parts = ("system tablespace", "redo log", "undo", "Aria log")
    gtid = "SELECT @@gtid_binlog_pos;"

    def refuse_program(self, version: str) -> None:
        """Refuse what is not MariaDB. Raises: QuiesceError."""
        if "MariaDB" not in version:
            raise QuiesceError(f"{self.programs[0]} is not MariaDB's: {version.strip()}")

    def compare(self, layout: Layout, ask: Ask) -> Iterator[str]:
        """Yield the tables that InnoDB has, and the server does not: their `.frm` file is missing."""
        for row in ask.rows(KNOWN_TO_INNODB):
            name = bytes.fromhex(row).decode("utf-8", "replace")
            database, _, table = name.partition("/")
            if (
                table
                and not OF_AN_INDEX.match(table)
                and not os.path.exists(os.path.join(layout.data, database, f"{table}.frm"))
            ):
                yield f"table {database}.{table}: InnoDB has it, and its file {name}.frm is missing"
