"""Judges a copy of the shop: is it of one instant? The same code for every copy, however it was made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.demo.shop import JOURNAL, TABLE, name_of


@dataclass(frozen=True)
class Verdict:
    """What a copy holds: orders by journal and table, and how many orders' files are missing, or there twice."""

    journal: int
    table: int
    missing: int
    twice: int

    @property
    def books_agree(self) -> bool:
        """Whether journal and table are of one instant: an order is in the journal first, then in the table."""
        return self.table <= self.journal <= self.table + 1

    @property
    def consistent(self) -> bool:
        """Whether the copy may be of one instant."""
        return self.journal > 0 and self.books_agree and not self.missing and not self.twice


def judge(copy: Path) -> Verdict:
    """Judge the shop's folder in a copy."""
    journal = sum(1 for line in _lines(copy / JOURNAL) if line.startswith("order "))
    table = int(next(iter(_lines(copy / TABLE)), "0").split()[0])
    found = Counter(file.name for folder in ("inbox", "done") for file in (copy / folder).glob("order-*"))
    known = [name_of(number) for number in range(1, max(journal, table) + 1)]
    return Verdict(
        journal,
        table,
        missing=sum(1 for name in known if not found[name]),
        twice=sum(1 for times in found.values() if times > 1),
    )


def _lines(file: Path) -> list[str]:
    """Return a file's lines; a file that is not there has none."""
    return file.read_text().splitlines() if file.exists() else []
