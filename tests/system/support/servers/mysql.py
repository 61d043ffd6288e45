"""A MySQL server for a test, which no stable release of Debian has: from the tree that `make releases` makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.releases import program
from tests.system.support.runs.program import run
from tests.system.support.servers.maria import Brand, Server


def brand(*, plain: bool = True) -> Brand:
    """Return MySQL with or without tables that have no transactions. Errors: LookupError if it is not there."""
    names = ("mysqld", "mysql", "mysqlbinlog")
    server, client, binlog = (program("sid", name) for name in names)
    options = ["--innodb-redo-log-capacity=8M", "--performance-schema=OFF", "--mysqlx=0", "--secure-file-priv=NULL"]
    options += ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--table-open-cache=64"]
    return Brand(
        server, client, binlog, options, "@@gtid_executed", {"isam": "MyISAM"} if plain else {"inno": "InnoDB"}
    )


class MySQL(Server):
    """A real server. Its own tables are made in its directories at once: each knows where the others are."""

    def __init__(self, places: Sequence[Path], *, plain: bool = True) -> None:
        super().__init__(places, brand=brand(plain=plain))

    def install(self) -> None:
        """Make the server's own tables."""
        run(*self.argv(self.socket), "--initialize-insecure", "--skip-log-bin")
