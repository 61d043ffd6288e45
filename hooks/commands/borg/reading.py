"""Reads the command lines of BorgBackup: `borg create` of every release from 1.1 to the pre-releases of 2."""

from __future__ import annotations

import os
from dataclasses import replace

from borg_lvm.plugin_api import Invocation, Marked, ReadBack, Reading, Tainted, wrappers
from borg_lvm_hooks.commands.borg import command_lines, create, places
from borg_lvm_hooks.commands.borg.command_lines import Line
from borg_lvm_hooks.commands.borg.plugin import is_borg
from borg_lvm_hooks.commands.parsers import options, patterns

NO_ARCHIVE = "the command line names no REPOSITORY::ARCHIVE"
DEEPEST = 8
"""How many `borg with-lock` may stand in each other."""


def read(invocation: Invocation) -> Reading:
    """Read `borg … create …`, and `borg with-lock REPOSITORY borg create …`."""
    return read_arguments(invocation)


def mark(invocation: Invocation, tainted: Tainted) -> Marked:
    """Mark the archive that `borg create REPOSITORY::ARCHIVE …` has made; borg 2 is not followed there."""
    line, _ = _understood(invocation, 0)
    repository = places.repository_of(line.location, invocation)
    if line.action != "create" or line.complaints() or "::" not in line.location or not repository:
        return Marked(("borg-lvm cannot tell which archive this run has made: look for it (borg list), and delete it",))
    if line.command.has("--dry-run"):
        return Marked()
    if line.command.has("--timestamp"):
        message = "the archive has a time of the command line's, by which borg-lvm does not find it: delete it by hand"
        return Marked((message,))
    from borg_lvm_hooks.commands.borg import taint

    given = options.Parsed((*line.main.given(), *line.command.given()))
    return taint.mark(invocation, tainted, repository, given)


def read_back(invocation: Invocation) -> ReadBack:
    """Read back the archive that `borg create REPOSITORY::ARCHIVE …` has made; borg 2 is not followed there."""
    line, reading = _understood(invocation, 0)
    if why := _not_read_back(invocation, line, reading):
        return ReadBack(why)
    from borg_lvm_hooks.commands.borg import read_back, taint, version

    roots = create.roots(invocation, line)[0]
    dotted = any(read_back.SLASHDOT in root for root in roots)
    strips = version.strips_prefixes(invocation) if dotted and read_back.prefix(roots) else dotted
    if strips is None:
        return ReadBack(f"{invocation.argv[0]} --version does not say whether it takes off what stands before `/./`")
    creation = read_back.creation(invocation, line.main, line.command, roots, strips=strips)
    if creation is None:
        return ReadBack(
            "the sources must all be absolute paths, or all relative ones, without `..` and `/./` in them; or all have "
            "the same directory before a `/./`"
        )
    given = options.Parsed((*line.main.given(), *line.command.given()))
    place = taint.place(invocation, places.repository_of(line.location, invocation), given)
    is_ours = taint.same_words(invocation)
    return ReadBack(
        "what is on a device (--read-special) is not compared" if reading.reads_devices else "",  # but restored
        lambda programs, span: read_back.archives(place, creation, is_ours, programs, span),
        read_back.HOW,
        lambda programs, which: read_back.restored(place, creation, is_ours, programs, which),
    )


def _not_read_back(invocation: Invocation, line: Line, reading: Reading) -> str:
    """Say why what a command line saves is not read back; nothing if that is possible."""
    if line.action != "create" or reading.problems:
        return next(iter(reading.problems), f"only `borg create` is read back, not `borg {line.action}`")
    # crypto/key.py of borg 1: the first of these three counts.
    once = {"BORG_PASSPHRASE", "BORG_PASSCOMMAND", "BORG_PASSPHRASE_FD"} & set(invocation.env) == {"BORG_PASSPHRASE_FD"}
    reasons = (
        (line.borg2, "archives of borg 2 are not read back, only those of borg 1.1 to 1.4 (REPOSITORY::ARCHIVE)"),
        ("::" not in line.location or not places.repository_of(line.location, invocation), NO_ARCHIVE),
        (
            line.command.has("--timestamp"),
            "the archive has a time of the command line's (--timestamp), by which it is not found",
        ),
        (once, "the pass phrase of BORG_PASSPHRASE_FD can be read once only; use BORG_PASSPHRASE or BORG_PASSCOMMAND"),
    )
    return next((why for applies, why in reasons if applies), "")


def read_arguments(invocation: Invocation, depth: int = 0) -> Reading:
    """Read a borg command line whatever the program is called."""
    return _understood(invocation, depth)[1]


def extra_options(text: str) -> options.Parsed:
    """Read options for `borg create` that a program adds to those of its own.

    Raises: ValueError when a quotation mark is not closed.
    """
    import shlex

    return command_lines.extra_options(shlex.split(text))


def _understood(invocation: Invocation, depth: int) -> tuple[Line, Reading]:
    """Read a line as every release that takes it; the program is asked for its own only where they differ."""
    lines = command_lines.lines(invocation.argv[1:])
    fitting = [line for line in lines if line.fits(invocation)]
    if not fitting:
        line = command_lines.likely(lines)
        return line, _read(invocation, line, depth)
    readings = [_read(invocation, line, depth) for line in fitting]
    if len({_essence(reading) for reading in readings}) == 1 and not any(line.odd() for line in fitting):
        line = command_lines.likely(fitting)
        return line, readings[fitting.index(line)]
    return _as_its_release(invocation, lines, depth)


def _essence(reading: Reading) -> tuple[object, ...]:
    """Return what must not be got wrong."""
    sources = reading.sources, reading.excluded, reading.one_file_system, reading.reads_devices
    return *sources, reading.dry_run, reading.no_paths


def _as_its_release(invocation: Invocation, lines: list[Line], depth: int) -> tuple[Line, Reading]:
    from borg_lvm_hooks.commands.borg import version

    number = version.ask(invocation)
    line = command_lines.of_release(lines, number) if number else None
    if number is None or line is None:
        line = command_lines.likely(lines)
        problem = (
            f"{invocation.argv[0]} --version does not say which release of borg it is, and its releases read this"
            " command line differently; name the sources with --path"
        )
    elif line.odd() and number > line.newest:
        problem = (
            f"{line.odd()[0]!r} is a path for the releases of borg that borg-lvm knows, but may be an option of"
            f" {invocation.argv[0]}, which is newer; name the sources with --path"
        )
    else:
        return line, _read(invocation, line, depth)
    reading = _read(invocation, line, depth)
    return line, replace(reading, problems=(*reading.problems, problem), dry_run=False, no_paths=False)


def _read(invocation: Invocation, line: Line, depth: int) -> Reading:
    if line.action == "create":
        return create.read(invocation, line)
    if line.action == "with-lock" and not line.command.has("--help"):
        return _with_lock(invocation, line, depth)
    problems = line.complaints()
    said = f"borg {line.action}" if line.action else "borg without a command"
    problems.append(f"{said} reads no source paths; run it without borg-lvm")
    repository = line.main.last("--repo") or invocation.env.get("BORG_REPO", "")
    live = tuple(places.live(invocation, repository, line.borg2))
    return Reading("borg", line.action, live=live, problems=tuple(problems), no_paths=len(problems) == 1)


def _with_lock(invocation: Invocation, line: Line, depth: int) -> Reading:
    """Read the command that runs under the lock; it must be a borg that we understand."""
    problems = tuple(line.complaints())
    given = line.command.last("--repo") or line.main.last("--repo") or invocation.env.get("BORG_REPO", "")
    repository = given if line.borg2 else line.location
    live = tuple(places.live(invocation, repository, line.borg2))
    inner = wrappers.peel(line.locked, invocation.env, invocation.cwd)
    if inner.argv and is_borg(os.path.basename(inner.argv[0])) and depth < DEEPEST:
        reading = read_arguments(inner, depth + 1)
        return replace(
            reading,
            live=patterns.beside((*reading.live, *live), reading.sources),
            problems=(*problems, *reading.problems),
            dry_run=reading.dry_run and not problems,
            no_paths=reading.no_paths and not problems,
        )
    unread = (
        "borg with-lock runs a command that borg-lvm cannot follow; run borg-lvm inside of it, or name the sources"
        " with --path"
    )
    # What copies a repository under its lock (`rsync`, `rclone`) is none of ours.
    foreign = bool(inner.argv) and not any("borg" in word or "create" in word for word in line.locked)
    return Reading("borg", "with-lock", live=live, problems=(*problems, unread), no_paths=foreign and not problems)
