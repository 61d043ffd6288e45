"""Where a restored server of MariaDB's or MySQL's keeps what, as options that start it there.

A certificate names directories, and where two kinds of files share one it names only the first of them. So files are
looked for in all that was restored. Sources: MariaDB server documentation, InnoDB system variables; MySQL reference
manual, InnoDB startup options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from borg_lvm.plugin_api import ArchiveWrongError, Restored

SYSTEM, REDO = "system tablespace", "redo log"
PARTS = {
    SYSTEM: ("innodb-data-home-dir", ("ibdata1",)),
    REDO: ("innodb-log-group-home-dir", ("ib_logfile0", "#innodb_redo")),
    "undo": ("innodb-undo-directory", ("undo001", "undo_001")),
    "Aria log": ("aria-log-dir-path", ("aria_log_control",)),
    "doublewrite": ("innodb-doublewrite-dir", ("#ib_16384_0.dblwr",)),
}
"""The parts of a server's data that have a directory: its option, and a file of it by which it is known."""
NUMBERED = re.compile(r"(.+)\.(\d{6,})")
LOGGED = re.compile(r"\bbinary log (?P<name>\S+), position (?P<position>\d+)(?:, GTID (?P<gtid>\S+))?")
"""What a run's remark says of the binary log."""


@dataclass(frozen=True)
class Position:
    """A place in the binary log, as a run has recorded it: the file's name, its length there, and the GTIDs so far."""

    name: str
    at: int
    gtid: str = ""

    @classmethod
    def of(cls, remark: str) -> Position | None:
        """Return the place that a remark of a run names, if it does. Pure."""
        match = LOGGED.search(remark)
        return cls(match["name"], int(match["position"]), (match["gtid"] or "").rstrip(",")) if match else None


class Layout:
    """The directories of a restored server."""

    def __init__(self, restored: Restored) -> None:
        self._pairs = list(zip(restored.whats, restored.paths, strict=True))
        self._named = dict(reversed(self._pairs))
        self._directories = [path for path in restored.paths if os.path.isdir(path)]
        self.data = self._named["data"]
        self.position = Position.of(restored.remark)

    def refuse_incomplete(self, system_files: Sequence[str]) -> None:
        """Refuse data without its system tablespace or its redo log. A server might make new ones, without a word.

        Raises: ArchiveWrongError.
        """
        home = self._directory(SYSTEM, tuple(system_files))
        lacking = [name for name in system_files if not os.path.exists(os.path.join(home, name))]
        if lacking:
            raise ArchiveWrongError(f"the archive lacks {', '.join(lacking)}, the system tablespace, in {home}")
        option_files = PARTS[REDO][1]
        home = self._directory(REDO, option_files)
        if not any(os.path.exists(os.path.join(home, name)) for name in option_files):
            raise ArchiveWrongError(f"the archive lacks the redo log ({' or '.join(option_files)}) in {home}")

    def options(self, parts: Sequence[str]) -> Iterator[str]:
        """Yield the options for those parts that lie outside of the data directory."""
        for what in parts:
            option, files = PARTS[what]
            directory = self._directory(what, files)
            if directory != self.data:
                yield f"--{option}={directory}"

    def elsewhere(self) -> list[str]:
        """Return the directories with tables outside of the data directory."""
        paths = (path for what, path in self._pairs if what == "table")
        return list(dict.fromkeys(path if os.path.isdir(path) else os.path.dirname(path) for path in paths))

    def _directory(self, what: str, files: Sequence[str]) -> str:
        """Return the directory of a part: where its files are, else where it was said to be."""
        named = self._named.get(what, self.data)
        places = dict.fromkeys([named, self.data, *self._directories])
        holding = (place for place in places for name in files if os.path.exists(os.path.join(place, name)))
        return next(holding, named)

    def binary_log(self) -> str:
        """Return the beginning of the names of the binary log's files, with their directory; empty if there are none.

        A server with transactions that are prepared asks its log whether they were committed: without, it does not
        start.
        """
        return self._log("binary log", relay=False)

    def relay_log(self) -> str:
        """Return the same of a replica's relay log."""
        return self._log("relay log", relay=True)

    def _log(self, what: str, *, relay: bool) -> str:
        for directory in dict.fromkeys([self._named.get(what, self.data), self.data, *self._directories]):
            for name in sorted(os.listdir(directory)):
                base = name.removesuffix(".index")
                if base != name and _is_index(os.path.join(directory, name)) and self._is_relay(base) == relay:
                    return os.path.join(directory, base)
        return ""

    def _is_relay(self, base: str) -> bool:
        """Whether an index is a relay log's: it has that name, or `relay-log.info` names it."""
        try:
            with open(os.path.join(self.data, "relay-log.info"), encoding="utf-8", errors="replace") as file:
                named = [os.path.basename(line.strip()) for line in file.read(1 << 16).splitlines()]
        except OSError:
            named = []
        matches = (NUMBERED.fullmatch(name) for name in named)
        return "relay" in base or any(match and match[1] == base for match in matches)


def _is_index(path: str) -> bool:
    """Whether a file is a list of the files of a log."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 16).split()
    except OSError:
        return False
    return bool(lines) and all(NUMBERED.fullmatch(os.path.basename(line)) for line in lines[:1])
