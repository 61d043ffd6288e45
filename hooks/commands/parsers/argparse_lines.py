"""Reads command lines as Python's argparse does, word for word, after a table of options.

argparse looks at each word before it looks at what stands before it: `-5` and `-o dd` (one word) are no options,
`--comment -x` lacks a value, and an abbreviation is taken if it is unique. Sources: `_parse_optional`,
`_get_option_tuples` and `consume_optional` of Python 3.9 to 3.14. Where these versions differ, what any of them takes
is taken, for nothing that one of them reads may be missed.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from borg_lvm_hooks.commands.parsers.options import Given, Option, Parsed, Table, Takes, Word

NEGATIVE = re.compile(r"-\.?\d")
"""A number, and no option. Before Python 3.14 nothing could follow it, and a line with `-5x` was refused."""


class Names:
    """A table's options by their names and abbreviations."""

    def __init__(self, table: Table) -> None:
        self.by_name = table.by_name
        self._sorted = sorted(table.by_name)

    def beginning(self, text: str) -> list[Option]:
        """Return the options with a name that begins so."""
        options: dict[str, Option] = {}
        for name in self._sorted[bisect_left(self._sorted, text) :]:
            if not name.startswith(text):
                break
            options[self.by_name[name].name] = self.by_name[name]
        return list(options.values())

    def meant(self, arg: str) -> tuple[list[Option], str | None]:
        """Return the options that a word may mean, and the value attached to it; none if it is no known option."""
        if arg in self.by_name:
            return [self.by_name[arg]], None
        text, equals, value = arg.partition("=")
        attached = value if equals else None
        if equals and text in self.by_name:
            return [self.by_name[text]], attached
        if arg.startswith("--"):
            return self.beginning(text), attached
        if arg[:2] in self.by_name:
            return [self.by_name[arg[:2]]], arg[2:]
        return [], None

    def is_word(self, arg: str) -> bool:
        """Return whether argparse takes this for a positional argument, wherever it stands before a `--`."""
        if not arg.startswith("-") or arg == "-":
            return True
        if arg == "--" or self.meant(arg)[0]:
            return False
        return NEGATIVE.match(arg) is not None or " " in arg


class _Reader:
    """Takes one command line apart."""

    def __init__(self, args: Sequence[str], names: Names, words: int | None) -> None:
        self.args, self.at = args, 0
        self.names, self.left = names, words
        self.items: list[Given | Word] = []
        self.unknown: list[str] = []
        self.ambiguous: list[str] = []
        self.incomplete: list[str] = []

    def read(self) -> Parsed:
        literal = False
        while self.at < len(self.args) and self.left != 0:
            arg = self.args[self.at]
            self.at += 1
            if literal or self.names.is_word(arg):
                self._word(arg, literal)
            elif arg == "--":
                literal = True
            else:
                self._option(arg)
        rest = tuple(self.args[self.at :])
        return Parsed(tuple(self.items), tuple(self.unknown), tuple(self.ambiguous), tuple(self.incomplete), rest)

    def _word(self, arg: str, literal: bool) -> None:
        self.items.append(Word(arg, literal))
        if self.left is not None:
            self.left -= 1

    def _option(self, arg: str) -> None:
        options, value = self.names.meant(arg)
        text = arg.partition("=")[0]
        if not options:
            self.unknown.append(text if arg.startswith("--") else arg[:2])
        elif len(options) > 1:
            self.ambiguous.append(text)
        elif value is None:
            self._alone(options[0], text)
        elif options[0].takes is not Takes.NOTHING:
            self.items.append(Given(options[0].name, value))
        elif arg.startswith("--") or not value:
            self.unknown.append(arg)
        else:
            self.items.append(Given(options[0].name))
            self._cluster(value)

    def _cluster(self, letters: str) -> None:
        """Take `-sxC lz4` apart, after its first letter."""
        while letters:
            text, letters = f"-{letters[0]}", letters[1:]
            option = self.names.by_name.get(text)
            if option is None:
                self.unknown.append(text)
                return
            if option.takes is not Takes.NOTHING and letters:
                self.items.append(Given(option.name, letters.removeprefix("=")))
                return
            if option.takes is not Takes.NOTHING:
                self._alone(option, text)
            else:
                self.items.append(Given(option.name))

    def _alone(self, option: Option, text: str) -> None:
        """Take an option with nothing attached, and the words after it that are its values."""
        most = {Takes.NOTHING: 0, Takes.VALUE: 1, Takes.OPTIONAL: 1, Takes.SEVERAL: len(self.args)}[option.takes]
        begin = self.at
        while self.at < min(begin + most, len(self.args)) and self.names.is_word(self.args[self.at]):
            self.at += 1
        values = self.args[begin : self.at]
        if values:
            self.items += [Given(option.name, value) for value in values]
        elif option.takes in (Takes.NOTHING, Takes.OPTIONAL):
            self.items.append(Given(option.name))
        else:
            self.incomplete.append(text)


def read(args: Sequence[str], names: Names, words: int | None = None) -> Parsed:
    """Take a command line apart; after so many `words`, what follows is left unread, in `rest`."""
    return _Reader(args, names, words).read()
