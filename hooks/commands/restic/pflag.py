"""Reads command lines as Go's cobra and pflag do, as restic uses them.

cobra looks for the command's word first, by the options that all commands have; then pflag reads all that is left by
the command's own table, so that the options of `backup` may stand before that word. Sources: cobra's command.go
(stripFlags, argsMinusFirstX), pflag's flag.go (parseLongArg, parseSingleShortArg).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from borg_lvm.plugin_api import dataclass
from borg_lvm_hooks.commands.parsers.options import Given, Option, Parsed, Table, Takes, Word


@dataclass(frozen=True)
class Command:
    """The command's word, and what is left without it; `before` is what stands in front of it.

    `unsure`: cobra before 1.7 took out the first word of that spelling, even an option's value, and read another line.
    """

    word: str
    before: tuple[str, ...]
    rest: tuple[str, ...]
    unsure: bool = False


def find_command(args: Sequence[str], table: Table) -> Command:
    """Find the command's word by the options of all commands (`table`); empty if there is none."""
    at = 0
    while at < len(args) and args[at] != "--":
        arg = args[at]
        if _skips_next(arg, table):
            if at + 2 >= len(args):
                break
            at += 1
        elif arg and not arg.startswith("-"):
            rest = (*args[:at], *args[at + 1 :])
            first = args.index(arg)
            return Command(arg, tuple(args[:at]), rest, unsure=(*args[:first], *args[first + 1 :]) != rest)
        at += 1
    return Command("", tuple(args), ())


def _skips_next(arg: str, table: Table) -> bool:
    """Return whether cobra takes the next word for this option's value; it does so for each that it does not know."""
    if "=" in arg or not (arg.startswith("--") or (arg.startswith("-") and len(arg) == 2)):
        return False
    option = table.by_name.get(arg)
    return option is None or option.takes is Takes.VALUE


def read(args: Sequence[str], table: Table) -> Parsed:
    """Take a command line without the command's word apart, up to what pflag refuses."""
    return _Reader(args, table).read()


class _Reader:
    def __init__(self, args: Sequence[str], table: Table) -> None:
        self.args, self.table = deque(args), table
        self.items: list[Given | Word] = []
        self.unknown: list[str] = []
        self.incomplete: list[str] = []

    def read(self) -> Parsed:
        while self.args and not (self.unknown or self.incomplete):
            arg = self.args.popleft()
            if arg == "--":
                self.items += [Word(word, literal=True) for word in self.args]
                break
            if arg.startswith("--"):
                self._long(arg)
            elif arg.startswith("-") and arg != "-":
                self._short(arg[1:])
            else:
                self.items.append(Word(arg))
        return Parsed(tuple(self.items), tuple(self.unknown), incomplete=tuple(self.incomplete))

    def _long(self, arg: str) -> None:
        name, equals, value = arg.partition("=")
        option = self.table.by_name.get(name)
        if option is None:
            self.unknown.append(name)
        elif equals:
            self.items.append(Given(option.name, value))
        else:
            self._alone(option, name)

    def _short(self, letters: str) -> None:
        while letters:
            text, letters = f"-{letters[0]}", letters[1:]
            option = self.table.by_name.get(text)
            if option is None:
                self.unknown.append(text)
                return
            if len(letters) > 1 and letters[0] == "=":
                self.items.append(Given(option.name, letters[1:]))
                return
            if letters and option.takes is Takes.VALUE:
                self.items.append(Given(option.name, letters))
                return
            self._alone(option, text)

    def _alone(self, option: Option, text: str) -> None:
        """Take an option without an attached value: only one that must have a value takes the next word."""
        if option.takes is not Takes.VALUE:
            self.items.append(Given(option.name))
        elif self.args:
            self.items.append(Given(option.name, self.args.popleft()))
        else:
            self.incomplete.append(text)


# What Go's strconv.ParseBool takes for true and false.
TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")


def is_on(parsed: Parsed, name: str) -> bool:
    """Return whether a switch is on: the last mention counts, `--switch=false` turns it off."""
    state = False
    for item in parsed.given():
        if item.name == name:
            state = item.value not in FALSE
    return state
