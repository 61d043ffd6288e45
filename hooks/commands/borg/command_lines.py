"""Takes borg's command lines apart, as each of its releases would, and finds the release where that matters."""

from __future__ import annotations

import os
from collections.abc import Sequence

from borg_lvm.plugin_api import Invocation, dataclass
from borg_lvm_hooks.commands.borg import option_tables
from borg_lvm_hooks.commands.borg.option_tables import Release, Tables
from borg_lvm_hooks.commands.borg.plugin import is_borg
from borg_lvm_hooks.commands.parsers import argparse_lines, options

NOTHING = options.Parsed(())


@dataclass(frozen=True)
class Line:
    """A command line as some releases of borg read it, all of them alike; `command` is what follows the action."""

    releases: tuple[Tables, ...]
    main: options.Parsed
    command: options.Parsed

    @property
    def borg2(self) -> bool:
        """Whether it is borg 2 that reads it so."""
        return self.releases[0].borg2

    @property
    def action(self) -> str:
        """`create`, `list` …; empty without one."""
        return self.main.words[0] if self.main.words else ""

    @property
    def location(self) -> str:
        """The first word after `create`: `REPOSITORY::ARCHIVE` of borg 1, the archive's name of borg 2."""
        return self.command.words[0] if self.command.words else ""

    @property
    def locked(self) -> tuple[str, ...]:
        """The command that `with-lock` runs."""
        last, rest = self.command.words[-1:], self.command.rest
        return (*last, *(rest[1:] if rest[:1] == ("--",) else rest))

    @property
    def newest(self) -> Release:
        """The newest release of this major version that is known."""
        return [tables.release for tables in option_tables.every() if tables.borg2 == self.borg2][-1]

    def odd(self) -> list[str]:
        """Return the paths that a later release may take for options, as `--new=a b` once there is a `--new`."""
        words = (item for item in self.command.items if isinstance(item, options.Word) and not item.literal)
        return [word.text for word in words if word.text.startswith("-") and " " in word.text]

    def complaints(self) -> list[str]:
        """Say what these releases could not explain; after `--help` or `--version` they do not look any further."""
        if self.main.has("--help", "--version"):
            return options.complaints("borg", self.main)
        return [*options.complaints("borg", self.main), *options.complaints("borg", self.command)]

    def fits(self, invocation: Invocation) -> bool:
        """Return whether these releases take it for one of theirs: an archive and a repository look different."""
        if self.complaints():
            return False
        if self.main.has("--help", "--version") or self.command.has("--help"):
            return True
        if self.action == "create":
            return "/" not in self.location if self.borg2 else "::" in self.location
        if self.action == "with-lock":
            return len(self.command.words) == (1 if self.borg2 else 2) and _starts(self.locked, invocation)
        return True


def _starts(command: tuple[str, ...], invocation: Invocation) -> bool:
    """Return whether there is such a program: of borg 2 the first word is one, of borg 1 it is the repository."""
    inner = Invocation(command, invocation.env, invocation.cwd)
    from borg_lvm_hooks.commands.borg import version

    return is_borg(os.path.basename(command[0])) or version.program(inner) is not None


def lines(args: Sequence[str]) -> list[Line]:
    """Return the ways in which releases of borg read a command line (without the program's name), older ones first."""
    return [_line(args, group) for group in option_tables.distinct(args)]


def _line(args: Sequence[str], group: list[Tables]) -> Line:
    tables = group[-1]
    main = argparse_lines.read(args, tables.main, words=1)
    command = NOTHING
    if main.words[:1] == ("create",):
        command = argparse_lines.read(main.rest, tables.create)
    elif main.words[:1] == ("with-lock",):
        command = argparse_lines.read(main.rest, tables.with_lock, words=1 if tables.borg2 else 2)
    return Line(tuple(group), main, command)


def likely(lines: Sequence[Line]) -> Line:
    """Return the line of borg 1 if its first word is `REPOSITORY::ARCHIVE`, else that of the newest borg."""
    ones = [line for line in lines if not line.borg2 and (line.action != "create" or "::" in line.location)]
    return (ones or list(lines))[-1]


def of_release(lines: Sequence[Line], number: Release) -> Line | None:
    """Return the line as a release reads it."""
    same = [each for each in option_tables.every() if each.borg2 == (number[0] >= 2)]
    known = [each for each in same if each.release <= number] or same[:1]
    return next((line for line in lines if known[-1] in line.releases), None)


def location(args: Sequence[str]) -> str:
    """Return the `REPOSITORY::ARCHIVE` of a `borg create`, as it was written; nothing if it is none."""
    fitting = [line for line in lines(args) if not line.borg2 and line.action == "create" and not line.complaints()]
    return fitting[-1].location if fitting else ""


def extra_options(words: Sequence[str]) -> options.Parsed:
    """Read options for `borg create` that a program adds to those of its own."""
    readings = [argparse_lines.read(words, group[-1].create) for group in option_tables.distinct(words)]
    clear = {parsed for parsed in readings if not options.complaints("borg", parsed)}
    if len(clear) > 1:
        return options.Parsed((), ambiguous=tuple(words))
    return clear.pop() if clear else readings[-1]
