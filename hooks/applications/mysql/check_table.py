"""CHECK TABLE … EXTENDED of all tables, and what a server answers to that. Pure.

Sources: MariaDB server documentation and MySQL reference manual, CHECK TABLE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

FINE = ("OK", "Table is already up to date")
UNABLE = "The storage engine for the table doesn't support check"
UNKNOWN = "Unknown storage engine"
OPEN = "using or ha"
"""Of a table that was open at the instant: `1 client is using or hasn't closed the table properly`."""
REPAIRED_BY_USE = ("CSV",)
"""Engines of whose tables the server repairs what was open at the instant, when they are used: so they are first."""
ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\0": "\\0"})
SHOWN = 5
"""So many tables of a kind are named."""


@dataclass(frozen=True)
class Table:
    """A table: its database, its name, its engine (empty if the server cannot tell), what the server says of it."""

    schema: str
    name: str
    engine: str
    comment: str = ""

    @classmethod
    def of(cls, row: str) -> Table:
        """Read a row, whose first two values and last one are in hexadecimal digits: there are names of all kinds."""
        schema, name, engine, comment = row.split("\t")
        return cls(_text(schema), _text(name), engine, _text(comment))

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def printed(self) -> str:
        """Its name as the client prints it in a row."""
        return str(self).translate(ESCAPED)

    @property
    def statements(self) -> str:
        """What has it checked."""
        name = ".".join(f"`{part.replace('`', '``')}`" for part in (self.schema, self.name))
        use = "DO (SELECT COUNT(*) FROM {0});\n" if self.engine in REPAIRED_BY_USE else ""
        return f"{use}CHECK TABLE {{0}} EXTENDED;\n".format(name)


def _text(digits: str) -> str:
    return bytes.fromhex(digits).decode("utf-8", "replace")


@dataclass(frozen=True)
class Checked:
    """The result: rows of a table's name, `check`, the kind of the message, and the message."""

    tables: Sequence[Table]
    rows: Sequence[str]

    @cached_property
    def _answers(self) -> dict[str, list[tuple[str, str]]]:
        answers: dict[str, list[tuple[str, str]]] = {}
        for row in self.rows:
            name, _, kind, text = [*row.split("\t", 3), "", "", ""][:4]
            answers.setdefault(name, []).append((kind, text))
        return answers

    @property
    def wrong(self) -> list[str]:
        """What is wrong, table by table."""
        return [text for table in self.tables for text in self._of(table)]

    def _of(self, table: Table) -> Iterator[str]:
        answers = self._answers.get(table.printed, [])
        if table in self.unchecked or table in self.open:
            return
        said = [text for kind, text in answers if kind != "status" or text not in FINE]
        if not answers:
            yield f"table {table}: the server has not checked it"
        elif said:
            yield f"table {table}: {'; '.join(dict.fromkeys(said))}"

    @cached_property
    def unchecked(self) -> list[Table]:
        """The tables that cannot be checked: their engine has no check, or is not started in a drill."""
        return [
            table
            for table in self.tables
            if any(text == UNABLE or text.startswith(UNKNOWN) for _, text in self._answers.get(table.printed, []))
        ]

    @cached_property
    def open(self) -> list[Table]:
        """The tables that were open at the instant, and are in order all the same: a server says no more of them."""
        return [table for table in self.tables if _is_open(self._answers.get(table.printed, []))]

    @property
    def count(self) -> str:
        """How many tables were checked."""
        number = len(self.tables) - len(self.unchecked)
        return "1 table" if number == 1 else f"{number} tables"

    @property
    def remarks(self) -> str:
        """Which were not, and of which engines; and which were open at the instant."""
        unchecked = _named([f"{table} ({table.engine or 'no engine'})" for table in self.unchecked])
        opened = _named([str(table) for table in self.open])
        no_check = f"; not checked, for their engine has no check or is not started in a drill: {unchecked}"
        return (no_check if unchecked else "") + (f"; in order, but open at the instant: {opened}" if opened else "")


def _is_open(answers: Sequence[tuple[str, str]]) -> bool:
    said = [text for _, text in answers]
    return len(said) == 2 and OPEN in said[0] and said[1] in FINE


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
