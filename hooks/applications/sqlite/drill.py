"""Judges restored SQLite databases: opened as their user's programs would open them, and checked from end to end."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence

from borg_lvm.plugin_api import Bench, Judge
from borg_lvm_hooks.applications.sqlite.look import BESIDE, MAGIC

MOST = 5
"""How many faults of a database are named."""


class SQLiteJudge(Judge):
    """Databases of one application; a journal beside one is played back, as at the first start after a power cut."""

    beside = tuple(filter(None, BESIDE))

    def prepare(self) -> Sequence[str]:
        """Need nothing: Python has the library."""
        return ()

    def judge(self, bench: Bench) -> None:
        """Check each of them."""
        sound = [path for path in self.restored.paths if self._is_sound(path, bench)]
        if sound:
            several = f"{len(sound)} database{'s' * (len(sound) != 1)}"
            bench.right(f"integrity_check and foreign_key_check of {several}")

    def _is_sound(self, path: str, bench: Bench) -> bool:
        faults = list(_faults(path, bench))
        for fault in faults[:MOST]:
            bench.wrong(f"{path}: {fault}")
        return not faults


def _faults(path: str, bench: Bench) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) not in (b"", MAGIC):
                yield "it does not begin as a database does"
                return
        with bench.phase(f"check {os.path.basename(path)}"):
            database = sqlite3.connect(path)
            try:
                for (text,) in database.execute(f"PRAGMA integrity_check({MOST})"):
                    if text != "ok":
                        yield " ".join(str(text).split())
                for table, row, parent, _ in database.execute("PRAGMA foreign_key_check"):
                    yield f"table {table}, row {row}: there is no row of {parent} that it names"
            finally:
                database.close()
    except (OSError, sqlite3.Error) as error:
        yield str(error)
