"""Which data trees are in a restored volume, and what wrote them, by the files that only that program has.

Sources: PostgreSQL documentation, Database File Layout; MariaDB and MySQL manuals, data directory; Redis documentation,
persistence; sqlite.org/fileformat.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from borg_lvm.plugin_api import RestoredTree
from borg_lvm_hooks.applications.sqlite.look import MAGIC

DEEPEST = 3
"""So many directories below a volume data is looked for: images keep it in one of their own, by its version perhaps."""
MOST = 2000
"""So many names of a volume are examined."""
VERSIONS = {"postgresql": ("PG_VERSION",), "mariadb": ("mariadb_upgrade_info", "mysql_upgrade_info")}
"""Files in which the version is that wrote the data."""
LONGEST = 64


@dataclass(frozen=True)
class Data:
    """Data of one program, and the version that wrote it, if that is known: a directory; of sqlite, its files."""

    kind: str
    version: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{self.kind} in {self.paths[0]}{more}"


def found(tree: RestoredTree, volume: str) -> list[Data]:
    """Return what is in a volume: data of servers, then databases of SQLite, together if they are of one owner."""
    servers: list[Data] = []
    databases: dict[int, list[str]] = {}
    waiting, left = [(volume, 0)], MOST
    while waiting:
        path, depth = waiting.pop(0)
        names = tree.names(path)
        if kind := _server(names):
            servers.append(Data(kind, _version(tree, kind, path), (path,)))
            continue
        files = (
            [path] if path == volume and not names else [f"{path}/{name}" for name in sorted(names) if not names[name]]
        )
        for file in files[:left]:
            if tree.head(file, len(MAGIC)) == MAGIC:
                databases.setdefault(tree.owner(file), []).append(file)
        left = max(0, left - len(names))
        if depth < DEEPEST:
            waiting += [(f"{path}/{name}", depth + 1) for name in sorted(names) if names[name]][:left]
    return [*servers, *(Data("sqlite", "", tuple(paths)) for paths in databases.values())]


def _server(names: Mapping[str, bool]) -> str:
    """Return which server's data directory has these names; empty if none's."""
    if "PG_VERSION" in names and names.get("global"):
        return "postgresql"
    if "ibdata1" in names and names.get("mysql"):
        return "mysql" if "mysql.ibd" in names or "aria_log_control" not in names else "mariadb"
    if "appendonlydir" in names or "appendonly.aof" in names or "dump.rdb" in names:
        return "redis"
    return ""


def _version(tree: RestoredTree, kind: str, path: str) -> str:
    texts = (tree.head(f"{path}/{name}", LONGEST) for name in VERSIONS.get(kind, ()))
    return next((text.decode("ascii", "replace").strip("\0\n ") for text in texts if text), "")
