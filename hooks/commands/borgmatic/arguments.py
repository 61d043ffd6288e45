"""Reads borgmatic's command lines.

Several parsers take what they know out of one line: borgmatic's own and one for each action. Releases before 1.8 take
several files after one `--config`, and releases before 2 shortened options; what one release refuses is read as the
other does, for a line that borgmatic refuses saves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from borg_lvm_hooks.commands.borgmatic import option_tables as schema
from borg_lvm_hooks.commands.borgmatic.configuration import Changes, Written
from borg_lvm_hooks.commands.borgmatic.values import REMOVED
from borg_lvm_hooks.commands.parsers import options

STYLE = options.Style(short_equals=True)
DEFAULT_ACTIONS = ("create", "prune", "compact", "check")
OF_ACTIONS = frozenset(name for text in schema.ACTIONS.values() for name in options.Table(text).by_name)
SEVERAL = ("--config", "--override")
"""Options that take all words that follow, before borgmatic 1.8."""
QUIET = ("--help", "--version", "--bash-completion", "--fish-completion")


@dataclass
class CommandLine:
    """What a command line says; `explicit` if it names actions, `problems` in whole sentences."""

    actions: list[str] = field(default_factory=list)
    explicit: bool = False
    configs: list[str] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    dry_run: bool = False
    repository: str | None = None
    settings: tuple[str, ...] = ()
    """The words that stand for settings of borgmatic 2."""
    creates: bool = False
    problems: list[str] = field(default_factory=list)


def read(args: Sequence[str]) -> CommandLine:
    """Read a command line without the program's name."""
    two_meanings = list(_of_two_meanings(args))
    args = ["--no-color" if arg == "-nc" else arg for arg in args]
    parsed = options.read(args, _table(args), STYLE)
    line = CommandLine(dry_run=parsed.has("--dry-run"), repository=parsed.last("--repository"))
    values = _words(parsed, line)
    line.explicit = bool(line.actions)
    line.actions = line.actions or list(DEFAULT_ACTIONS)
    line.creates = "create" in line.actions and not parsed.has(*QUIET)
    if not line.creates:
        shown = " ".join(line.actions)
        what = f"borgmatic {shown}" if "create" not in line.actions else "this borgmatic command line"
        line.problems = [f"{what} reads no source paths; run it without borg-lvm"]
        return line
    line.problems += options.complaints("borgmatic", parsed)
    line.problems += two_meanings
    line.configs = values["--config"]
    interpolates = not parsed.has("--no-environment-interpolation")
    line.changes = Changes(tuple(_settings(parsed)), tuple(values["--override"]), interpolates)
    line.settings = tuple(_setting_words(parsed))
    return line


def _table(args: Sequence[str]) -> options.Table:
    """Make the table for one command line: with the abbreviations and the parts of settings that stand there."""
    table = _complete()
    actions = [action for action in schema.ACTIONS if action in args] or list(DEFAULT_ACTIONS)
    shortened = {name for action in actions for name in options.Table(schema.ACTIONS[action]).by_name}
    shortened |= {"--help", *schema.ABBREVIATED}
    more = []
    for word in dict.fromkeys(arg.partition("=")[0] for arg in args if arg.startswith("--")):
        switch = schema.part(word)
        if switch is not None:
            more.append(word if switch else f"{word}=")
        elif word not in table.by_name and len(word) > 2:
            meant = {table.by_name[name].name for name in shortened if name.startswith(word)}
            if len(meant) == 1:
                (name,) = meant
                takes = table.by_name[name].takes is options.Takes.VALUE
                more.append(f"{name} {word}" + ("=" if takes else ""))
    return options.Table(*schema.table(), *more) if more else table


@cache
def _complete() -> options.Table:
    return options.Table(*schema.table())


def _of_two_meanings(args: Sequence[str]) -> Iterator[str]:
    """Refuse `-nc FILE`: a dry run with that configuration, and before borgmatic 2 another way to say `--no-color`."""
    for word, following in pairwise(args):
        if word == "-nc" and not following.startswith("-") and following not in schema.ALL_ACTIONS:
            yield "borgmatic's option -nc means --no-color or --dry-run --config; write what you mean"


def _words(parsed: options.Parsed, line: CommandLine) -> dict[str, list[str]]:
    """Take the actions out; return the values of the options that may have several."""
    values: dict[str, list[str]] = {name: [] for name in SEVERAL}
    current = ""
    for item in parsed.items:
        if isinstance(item, options.Given):
            line.actions += filter(None, [schema.SHORT_ACTIONS.get(item.name)])
            if item.name in SEVERAL:
                values[item.name].append(item.value or "")
            if item.name not in OF_ACTIONS:
                current = item.name
        elif item.text in schema.ALL_ACTIONS:
            line.actions.append(item.text)
            if item.text == "borg":
                line.actions.append("…")
                return {name: [] for name in SEVERAL}
        elif current in SEVERAL:
            values[current].append(item.text)
        else:
            line.problems.append(
                f"borg-lvm does not know borgmatic's argument {item.text!r}, so it cannot tell which paths borgmatic"
                " reads; name the sources with --path"
            )
    return values


def _settings(parsed: options.Parsed) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the options that stand for settings, in borgmatic's order: groups removed, then parts, then the rest."""
    groups: list[list[tuple[tuple[str, ...], object]]] = [[], [], []]
    for item in parsed.given():
        name = item.name.removeprefix("--").replace("-", "_")
        off = name.removeprefix("no_")
        if schema.part(item.name) is not None:
            groups[1].append(_part(item))
        elif name in schema.SWITCHES:
            groups[2].append(((name,), True))
        elif name in schema.TEXTS:
            groups[2].append(((name,), item.value))
        elif name in schema.DATA:
            groups[2].append(((name,), Written(item.value or "")))
        elif off in schema.SWITCHES and off != name:
            groups[2].append(((off,), False))
        elif off in schema.GROUPS and off != name:
            groups[0].append(((off,), REMOVED))
    return (change for kind in groups for change in kind)


def _setting_words(parsed: options.Parsed) -> Iterator[str]:
    for item in parsed.given():
        if any(True for _ in _settings(options.Parsed((item,)))):
            yield item.name if item.value is None else f"{item.name}={item.value}"


def _part(item: options.Given) -> tuple[tuple[str, ...], object]:
    keys = tuple(item.name.removeprefix("--").replace("-", "_").split("."))
    if item.value is not None:
        return keys, item.value
    return (*keys[:-1], keys[-1].removeprefix("no_")), not keys[-1].startswith("no_")
