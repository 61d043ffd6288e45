"""Reads what `borg create` is to save, of a command line that is already taken apart."""

from __future__ import annotations

import os
from collections.abc import Iterator

from borg_lvm.plugin_api import Invocation, LivePath, Reading
from borg_lvm_hooks.commands.borg import excludes, option_tables, places
from borg_lvm_hooks.commands.borg.command_lines import Line
from borg_lvm_hooks.commands.borgmatic import additions
from borg_lvm_hooks.commands.parsers import options, patterns

# How borg takes the paths from elsewhere, and why we cannot.
ELSEWHERE = {
    "--paths-from-stdin": "standard input, which borg-lvm cannot read without taking it away from borg",
    "--paths-from-command": "another command's output",
    "--paths-from-shell-command": "another command's output",
    "--pattern-roots-internal": "an internal option",
}
# It saves the output of a command, and takes its words for that command.
CONTENT = "--content-from-command"

# Exit statuses of a warning: borg 1.4.5 and 2.0.0 (helpers/errors.py), the higher ones with BORG_EXIT_CODES=modern.
WARNINGS = frozenset((1, *range(100, 108)))


def read(invocation: Invocation, line: Line) -> Reading:
    """Return what a line with the action `create` reads and writes."""
    problems = line.complaints()
    dry_run = line.command.has("--dry-run")
    saves_nothing = dry_run and not problems
    nothing = _without_paths(line)
    problems += [] if nothing else _refused(invocation, line)
    named, unread = ([], []) if nothing or line.command.has(*ELSEWHERE) else roots(invocation, line)
    problems += unread
    lists = [invocation.absolute(path) for path in line.command.values("--patterns-from")]
    ours = additions.split([_source(invocation, path) for path in named if path != "-"], lists, invocation.env)
    clear = not problems
    if set(named) == {"-"}:
        nothing = "borg create reads standard input alone, no source paths; run it without borg-lvm"
    elif ours.live and not ours.sources:
        nothing = "borgmatic gives borg its own files and dumps alone, no source paths; there is nothing to freeze"
    problems += [nothing] if nothing else []
    if not ours.sources and not problems:
        problems.append("borg create is given no paths to read; name the sources with --path")
    repository = _repository(invocation, line)
    live = [*places.live(invocation, repository, line.borg2), *_profiles(invocation, line), *ours.live]
    return Reading(
        "borg",
        "create",
        ours.sources,
        live=patterns.beside(live, ours.sources),
        problems=(*problems, *places.repository_clash(invocation, repository, ours.sources)),
        notes=ours.notes,
        one_file_system=line.command.has("--one-file-system"),
        dry_run=saves_nothing,
        reads_devices=line.command.has("--read-special") and not ours.dumps,
        archive="" if dry_run else _archive(line.location),
        warnings=WARNINGS,
        no_paths=bool(nothing) and clear,
        excluded=excludes.read(invocation, line.command, _absolute(invocation, named, ours.sources)),
    )


def _absolute(invocation: Invocation, roots: list[str], sources: tuple[str, ...]) -> list[str]:
    """Return the sources that borg knows by their absolute names: its patterns go by the names that it was given."""
    relative = {_source(invocation, path) for path in roots if not path.startswith("/")}
    return [source for source in sources if source not in relative]


def _without_paths(line: Line) -> str:
    """Say why it is certain that no path is read, whatever stands on the line."""
    if line.command.has("--help") or line.main.has("--help", "--version"):
        return "borg create --help reads no source paths; run it without borg-lvm"
    if line.command.has(CONTENT):
        return f"borg create {CONTENT} saves a command's output and reads no source paths; run it without borg-lvm"
    return ""


def _refused(invocation: Invocation, line: Line) -> list[str]:
    """Say which sources of paths or options cannot be followed."""
    said = [
        f"borg's option {name} takes the paths from {why}; name the sources with --path"
        for name, why in ELSEWHERE.items()
        if line.command.has(name)
    ]
    said += [
        f"borg's option {name} sets options that borg-lvm does not follow; write them out"
        for name in ("--config", "--print_config")
        if line.main.has(name)
    ]
    if invocation.argv.count("--") > 1:
        said.append("two -- mean different things to different versions of borg's parser; leave one out")
    return [*said, *(_settings(invocation) if line.borg2 else ())]


def _settings(invocation: Invocation) -> Iterator[str]:
    """Refuse the other places from which borg 2 takes options: `BORG_CREATE__…` and a file of defaults."""
    for name in sorted(invocation.env):
        if name.startswith("BORG_CREATE__") or name == "BORG_CONFIG":
            yield f"the environment's {name} sets options of borg create that borg-lvm does not follow; write them out"
    for item in places.directories(invocation, borg2=True):
        defaults = os.path.join(item.path, "default.yaml")
        if item.reason == places.CONFIGURATION and os.path.exists(defaults):
            yield (
                f"{defaults} sets options of borg create, which borg-lvm does not follow; name the sources with --path"
            )


def roots(invocation: Invocation, line: Line) -> tuple[list[str], list[str]]:
    """Return the recursion roots in the order given: words after the archive, and `R` lines of patterns.

    And which files of patterns cannot be read, and why.

    One of `-` is the standard input. Before 1.2.3 and 2.0.0b4 borg forgets the roots of patterns where words name some,
    too: more is frozen then than it reads.
    """
    ignores_empty = line.releases[0].release >= option_tables.IGNORES_EMPTY_PATHS
    archive_seen = False
    roots: list[str | None] = []
    problems: list[str] = []
    for item in line.command.items:
        if isinstance(item, options.Word):
            if archive_seen and not (ignores_empty and item.text == ""):
                roots.append(item.text)
            archive_seen = True
        elif item.name == "--pattern":
            roots.append(patterns.borg_root(item.value or ""))
        elif item.name == "--patterns-from":
            try:
                content = patterns.text(invocation, item.value or "", "borg's pattern file")
            except patterns.UnreadableError as error:
                problems.append(str(error))
            else:
                roots += map(patterns.borg_root, patterns.clean_lines(content))
    return [root for root in roots if root is not None], problems


def _source(invocation: Invocation, path: str) -> str:
    """Return the path that borg reads: it takes `..` out by name before it looks at the disk."""
    if ".." in path.split("/"):
        path = os.path.normpath(path)
    return invocation.absolute(path)


def _repository(invocation: Invocation, line: Line) -> str:
    given = line.command.last("--repo") or line.main.last("--repo")
    return given or places.repository_of(line.location, invocation)


def _archive(location: str) -> str:
    """Return the archive's name, unless borg alone knows what its placeholders will say."""
    name = places.split_location(location)[1]
    return "" if "{" in name else name


def _profiles(invocation: Invocation, line: Line) -> Iterator[LivePath]:
    for parsed in (line.main, line.command):
        for path in parsed.values("--debug-profile"):
            yield LivePath(patterns.directory_of(invocation.absolute(path)), "borg's profile is written there")
