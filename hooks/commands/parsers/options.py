"""A small reader of command lines after a table of options.

A table is data: one option a line, its names, and whether it takes a value (`=`), may take one (`[=]`), takes some
(`[+]`), or takes none. A `Style` says how a program reads the table: getopt_long and popt differ; pflag.py is for Go's,
argparse_lines.py for Python's argparse.
What the table does not know is reported, never guessed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cached_property

from borg_lvm.plugin_api import dataclass


class Takes(Enum):
    """What follows an option."""

    NOTHING = "nothing"
    VALUE = "a value"
    OPTIONAL = "a value, or none"
    SEVERAL = "values"


@dataclass(frozen=True)
class Option:
    """One option under all its names; `name` is the one by which the plugins speak of it."""

    name: str
    names: tuple[str, ...]
    takes: Takes


@dataclass(frozen=True)
class Style:
    """How a program reads its command line.

    `abbreviations`: an unambiguous beginning of a long option will do. `short_equals`: `-o=value` means `value`.
    """

    abbreviations: bool = False
    short_equals: bool = False


# GNU getopt_long.
GETOPT = Style(abbreviations=True)
# popt, as rsync uses it.
POPT = Style(short_equals=True)


@dataclass(frozen=True)
class Word:
    """A word of the command line that is no option: a path, usually. `literal`: it came after `--`."""

    text: str
    literal: bool = False


@dataclass(frozen=True)
class Given:
    """An option as it was given; `name` as in its table, whatever name or abbreviation was used."""

    name: str
    value: str | None = None


@dataclass(frozen=True)
class Parsed:
    """A command line taken apart, in order; `rest` is what was not read."""

    items: tuple[Given | Word, ...]
    unknown: tuple[str, ...] = ()
    ambiguous: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words that are no options."""
        return tuple(item.text for item in self.items if isinstance(item, Word))

    def has(self, *names: str) -> bool:
        """Return whether any of these options was given."""
        return any(item.name in names for item in self.given())

    def values(self, *names: str) -> tuple[str, ...]:
        """All values of these options, in the order given."""
        return tuple(item.value for item in self.given() if item.name in names and item.value is not None)

    def last(self, *names: str) -> str | None:
        """Return the value that counts where the last one does, None if none was given."""
        values = self.values(*names)
        return values[-1] if values else None

    def given(self) -> Iterator[Given]:
        """All options, in the order given."""
        return iter(self._given)

    @cached_property
    def _given(self) -> tuple[Given, ...]:
        return tuple(item for item in self.items if isinstance(item, Given))


class Table:
    """The options of one program, readable by any of their names."""

    def __init__(self, *specifications: str) -> None:
        self.options: list[Option] = []
        self.by_name: dict[str, Option] = {}
        for specification in specifications:
            for line in specification.splitlines():
                if line.strip():
                    self._add(line)

    def _add(self, line: str) -> None:
        takes = Takes.NOTHING
        line = line.strip()
        if line.endswith("[=]"):
            takes, line = Takes.OPTIONAL, line[:-3]
        elif line.endswith("[+]"):
            takes, line = Takes.SEVERAL, line[:-3]
        elif line.endswith("="):
            takes, line = Takes.VALUE, line[:-1]
        names = tuple(line.split())
        option = Option(next((name for name in names if name.startswith("--")), names[0]), names, takes)
        self.options.append(option)
        self.by_name.update((name, option) for name in names if name not in self.by_name)

    def find_long(self, text: str, style: Style) -> list[Option]:
        """Return the options that `text` (with its dashes) may mean: one is an answer, several are ambiguous."""
        if text in self.by_name:
            return [self.by_name[text]]
        if not style.abbreviations:
            return []
        fitting = {option.name: option for name, option in self.by_name.items() if name.startswith(text)}
        return list(fitting.values())


class _Reader:
    """Takes one command line apart."""

    def __init__(self, args: Sequence[str], table: Table, style: Style) -> None:
        self.args, self.table, self.style = deque(args), table, style
        self.items: list[Given | Word] = []
        self.unknown: list[str] = []
        self.ambiguous: list[str] = []
        self.incomplete: list[str] = []

    def read(self) -> Parsed:
        while self.args:
            arg = self.args.popleft()
            if arg == "--":
                self._literal()
            elif arg.startswith("--"):
                self._long(arg)
            elif arg.startswith("-") and arg != "-":
                self._short(arg[1:])
            else:
                self.items.append(Word(arg))
        return Parsed(tuple(self.items), tuple(self.unknown), tuple(self.ambiguous), tuple(self.incomplete))

    def _literal(self) -> None:
        self.items += [Word(arg, literal=True) for arg in self.args]
        self.args.clear()

    def _long(self, arg: str) -> None:
        text, equals, value = arg.partition("=")
        fitting = self.table.find_long(text, self.style)
        if not fitting:
            self.unknown.append(text)
        elif len(fitting) > 1:
            self.ambiguous.append(text)
        elif equals:
            self._attached(fitting[0], text, value)
        else:
            self._alone(fitting[0], text)

    def _attached(self, option: Option, text: str, value: str) -> None:
        if option.takes is Takes.NOTHING:
            self.unknown.append(f"{text}={value}")
        else:
            self.items.append(Given(option.name, value))

    def _alone(self, option: Option, text: str) -> None:
        """Take an option to which no value is attached, with the next word if that is its value."""
        if option.takes in (Takes.NOTHING, Takes.OPTIONAL):
            self.items.append(Given(option.name))
        elif self.args:
            self.items.append(Given(option.name, self.args.popleft()))
        else:
            self.incomplete.append(text)

    def _short(self, letters: str) -> None:
        while letters:
            text, letters = f"-{letters[0]}", letters[1:]
            option = self.table.by_name.get(text)
            if option is None:
                self.unknown.append(text)
                return
            if letters.startswith("=") and self.style.short_equals:
                self._attached(option, text, letters[1:])
                return
            if option.takes is Takes.NOTHING:
                self.items.append(Given(option.name))
            elif letters:
                self.items.append(Given(option.name, letters))
                return
            else:
                self._alone(option, text)


def read(args: Sequence[str], table: Table, style: Style) -> Parsed:
    """Take a command line (without the program's name) apart after its table."""
    return _Reader(args, table, style).read()


def complaints(program: str, parsed: Parsed) -> list[str]:
    """Say in whole sentences what the table could not explain."""
    remedy = f"so it cannot tell which paths {program} reads; name the sources with --path"
    return [
        *(f"borg-lvm does not know {program}'s option {option} (misspelt?), {remedy}" for option in parsed.unknown),
        *(f"{program}'s option {option} is ambiguous, {remedy}" for option in parsed.ambiguous),
        *(f"{program}'s option {option} lacks its value, {remedy}" for option in parsed.incomplete),
    ]
