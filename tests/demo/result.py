"""What the three backups have shown, in words; and whether that is what was promised. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tests.demo.judge import Verdict
from tests.demo.shop import Places, name_of

HEADS = ("", "borg alone", "one by one", "one instant")


@dataclass(frozen=True)
class Backup:
    """How a backup went: its status and output, what the shop did meanwhile and its longest wait, and the verdict."""

    status: int
    output: str
    orders: int
    moves: int
    longest: float
    verdict: Verdict


@dataclass(frozen=True)
class Result:
    """The three backups of the shop in `at`, what was wrong with the shop, and what is left on the machine."""

    at: Places
    plain: Backup
    sequential: Backup
    instant: Backup
    trouble: str
    left: tuple[str, ...]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table: a column for each backup."""
        backups = (self.plain, self.sequential, self.instant)
        verdicts = [backup.verdict for backup in backups]
        return [
            HEADS,
            ("orders missing", *(str(len(verdict.missing)) for verdict in verdicts)),
            ("orders stored twice", *(str(len(verdict.twice)) for verdict in verdicts)),
            ("journal and table agree", *map(_books, verdicts)),
            ("files moved meanwhile", *(str(backup.moves) for backup in backups)),
            ("longest wait of the shop", *(f"{backup.longest:.2f} s" for backup in backups)),
        ]

    def problems(self) -> list[str]:
        """Return what was promised and not seen."""
        found = []
        if self.plain.verdict.consistent:
            found.append("borg alone was lucky: its archive is consistent, so there is nothing to compare with")
        for name, backup in (("one by one", self.sequential), ("one instant", self.instant)):
            if backup.status:
                found.append(f"{name}: the backup ended with exit status {backup.status}")
        if not self.instant.moves:
            found.append("one instant: the shop moved no file during the backup, so it proves nothing")
        if not self.instant.verdict.consistent:
            found.append("one instant: the archive is not consistent")
        if self.trouble:
            found.append(self.trouble)
        return found + [f"left on the machine: {line}" for line in self.left]

    def lessons(self) -> list[str]:
        """Return a paragraph for each backup."""
        return [
            f"borg alone: {self._alone()}",
            f"one by one: {_sequential(self.sequential.verdict)}",
            "one instant: each order is in the archive exactly once, although the shop moved "
            f"{self.instant.moves} files during the backup. All snapshots are removed.",
        ]

    def _alone(self) -> str:
        missing, shop, shipped = self.plain.verdict.missing, self.at.shop, self.at.shipped
        if not missing:
            return f"the files in the archive are of different times. {_end(self.plain)}"
        return (
            f"{name_of(missing[0])} is missing. When borg read {shipped}, the file was still in {shop}; when borg read "
            f"{shop}, it was in {shipped}. {_end(self.plain)}"
        )


def _end(backup: Backup) -> str:
    """Say how borg ended, and whether it has noticed anything."""
    missing = [name_of(number) for number in backup.verdict.missing]
    noticed = sum(1 for name in missing if name in backup.output)
    warnings = f"it warned of {noticed} of the {len(missing)} missing files" if noticed else "without a warning of it"
    return f"borg ended with exit status {backup.status}{': ' if noticed else ', '}{warnings}."


def _books(verdict: Verdict) -> str:
    if verdict.books_agree:
        return f"yes ({verdict.journal})"
    return f"no ({verdict.journal}, {verdict.table})"


def _sequential(verdict: Verdict) -> str:
    if verdict.missing:
        return (
            f"{name_of(verdict.missing[0])} is missing. The shop moved it after the first snapshot and before the "
            "second. Snapshots taken one after the other do not belong together."
        )
    if not verdict.consistent:
        return "the shop kept running between the two snapshots, so they do not belong together."
    return "this time the shop did nothing between the two snapshots. That was luck."
