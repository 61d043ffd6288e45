"""Reads options as glibc's getopt_long does, for the programs that run another one. Source: getopt_long(3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Takes = Literal["nothing", "value", "optional"]


@dataclass(frozen=True)
class Option:
    """One option; `name` is its first one. `refused`: under it no command follows, or not a plain one."""

    name: str
    takes: Takes
    refused: bool


@dataclass(frozen=True)
class Parsed:
    """The options in their order, with their values, and the words that are left."""

    options: tuple[tuple[str, str], ...]
    words: tuple[str, ...]


class Table:
    """The options of one program: `-n/--nice=` must have a value, `-n[=]` may have an attached one, `!` is refused."""

    def __init__(self, specification: str) -> None:
        self.names: dict[str, Option] = {}
        for one in specification.split():
            refused = one.endswith("!")
            names, takes = _takes(one.rstrip("!"))
            option = Option(names[0], takes, refused)
            self.names.update(dict.fromkeys(names, option))

    def find(self, text: str) -> Option | None:
        """Return the option of this name, or of this unambiguous beginning of a long name."""
        if text in self.names or not text.startswith("--"):
            return self.names.get(text)
        found = {option.name: option for name, option in self.names.items() if name.startswith(text)}
        return next(iter(found.values())) if len(found) == 1 else None


def _takes(text: str) -> tuple[list[str], Takes]:
    if text.endswith("[=]"):
        return text[:-3].split("/"), "optional"
    if text.endswith("="):
        return text[:-1].split("/"), "value"
    return text.split("/"), "nothing"


def parse(args: Sequence[str], table: Table, *, permute: bool) -> Parsed | None:
    """Read options up to the first word, or all (`permute`); None if one is unknown, refused, or lacks its value."""
    waiting, options, words = deque(args), list[tuple[str, str]](), list[str]()
    while waiting:
        arg = waiting.popleft()
        if arg == "--":
            break
        if not arg.startswith("-") or arg == "-":
            words.append(arg)
            if permute:
                continue
            break
        taken = _long(arg, waiting, table) if arg.startswith("--") else _short(arg[1:], waiting, table)
        if taken is None:
            return None
        options += taken
    return Parsed(tuple(options), (*words, *waiting))


def _long(arg: str, waiting: deque[str], table: Table) -> list[tuple[str, str]] | None:
    text, equals, value = arg.partition("=")
    option = table.find(text)
    if option is None or option.refused or (equals and option.takes == "nothing"):
        return None
    if not equals and option.takes == "value":
        if not waiting:
            return None
        value = waiting.popleft()
    return [(option.name, value)]


def _short(letters: str, waiting: deque[str], table: Table) -> list[tuple[str, str]] | None:
    taken = []
    while letters:
        option, letters = table.names.get(f"-{letters[0]}"), letters[1:]
        if option is None or option.refused:
            return None
        value = ""
        if option.takes != "nothing":
            value, letters = letters, ""
            if not value and option.takes == "value":
                if not waiting:
                    return None
                value = waiting.popleft()
        taken.append((option.name, value))
    return taken
