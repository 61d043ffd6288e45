"""Judges what containers keep: each data tree in their volumes by the plugin of what runs in it.

What that is says the tree itself: the archive may be all that is left. It is shown where the container had it, too, for
a server keeps such paths in its data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from borg_lvm.plugin_api import Bench, Judge, Part, QuiesceError, Restored, RestoredTree
from borg_lvm_hooks.applications.containers.data_trees import Data, found
from borg_lvm_hooks.applications.mysql.drill_mariadb import MariaJudge
from borg_lvm_hooks.applications.mysql.drill_mysql import MySQLJudge
from borg_lvm_hooks.applications.postgresql.drill import PostgreSQLJudge
from borg_lvm_hooks.applications.postgresql.psql import Options
from borg_lvm_hooks.applications.redis.drill import RedisJudge
from borg_lvm_hooks.applications.sqlite.drill import SQLiteJudge

VOLUME = re.compile(r"(?:bind|volume) (?P<place>/.*) of (?P<container>\S+)")
"""What a run's certificate calls a volume (`Container.kept`)."""
JUDGES: Mapping[str, type[Judge]] = {
    "postgresql": PostgreSQLJudge,
    "mariadb": MariaJudge,
    "mysql": MySQLJudge,
    "redis": RedisJudge,
    "sqlite": SQLiteJudge,
}


class ContainersJudge(Judge):
    """The volumes of an entry's containers."""

    def prepare(self) -> Sequence[str]:
        """Need nothing yet: what ran in them is seen in what was restored."""
        return ()

    def divided(self, tree: RestoredTree) -> Sequence[Part]:
        """Return a part for all data that is known."""
        restored = self.restored
        parts = []
        for path, what in zip(restored.paths, restored.whats, strict=True):
            parts += [self._part(data, path, what) for data in found(tree, path)]
        if not parts:
            known = ", ".join(JUDGES)
            raise QuiesceError(f"no data of what is known ({known}) is in {', '.join(restored.paths)}")
        return parts

    def _part(self, data: Data, volume: str, what: str) -> Part:
        """Return who judges data in a volume, and is shown what its container had alone: others are not its owner's."""
        restored = Restored(self.restored.name, data.version, data.paths, ("data",) * len(data.paths), "", Options())
        links = tuple(self._links(what))
        return Part(JUDGES[data.kind](restored), str(data), links, (volume, *(path for _, path in links)))

    def _links(self, what: str) -> Iterator[tuple[str, str]]:
        """Yield where the container of a volume had this one and its others, and where these are."""
        mine = VOLUME.fullmatch(what)
        for path, other in zip(self.restored.paths, self.restored.whats, strict=True):
            match = VOLUME.fullmatch(other)
            if mine and match and match["container"] == mine["container"]:
                yield match["place"], path

    def judge(self, bench: Bench) -> None:
        """Never called: its parts are judged."""
        raise NotImplementedError
