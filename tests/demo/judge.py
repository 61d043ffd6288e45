"""Judges a copy of the shop: is it of one instant? The same code for every copy, however it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.demo.shop import JOURNAL, LEAVING, TABLE, Places, name_of, text_of


@dataclass(frozen=True)
class Verdict:
    """What a copy holds: orders by journal and by table, the newest file, and which orders are missing or twice."""

    journal: int
    table: int
    newest: int
    missing: tuple[int, ...]
    twice: tuple[int, ...]

    @property
    def books_agree(self) -> bool:
        """Whether files, journal and table are of one instant: an order comes into them in this order."""
        return self.table <= self.journal <= self.newest and self.newest <= self.table + 1

    @property
    def consistent(self) -> bool:
        """Whether the copy may be of one instant."""
        return self.journal > 0 and self.books_agree and not self.missing and not self.twice


def judge(copy: Places) -> Verdict:
    """Judge a copy. A file counts only if all of its text is there."""
    journal = sum(1 for line in _lines(copy.shop / JOURNAL) if line.startswith("order "))
    table = int(next(iter(_lines(copy.shipped / TABLE)), "0").split()[0])
    open_, shipped = (_orders(directory) for directory in copy.orders)
    leaving = [number for directory in copy.orders for number in _orders(directory, LEAVING)]
    there = open_ | shipped | set(leaving[:1] if len(leaving) == 1 else ())
    return Verdict(
        journal,
        table,
        newest=max(there, default=0),
        missing=tuple(number for number in range(1, max(journal, table) + 1) if number not in there),
        twice=tuple(sorted(open_ & shipped)),
    )


def _orders(directory: Path, suffix: str = "") -> set[int]:
    """Return the orders whose files, with that suffix, are whole."""
    found = {file.name: file for file in directory.glob(f"order-*{suffix}") if suffix or not file.suffix}
    numbers = {int(name.removesuffix(suffix).removeprefix("order-")) for name in found}
    return {number for number in numbers if found[name_of(number) + suffix].read_text() == text_of(number)}


def _lines(file: Path) -> list[str]:
    """Return a file's lines; a file that is not there has none."""
    return file.read_text().splitlines() if file.exists() else []
