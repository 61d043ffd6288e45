"""Reads back what borgmatic has saved: of each repository of its configuration the archive of this very run, by borg.

borg is called as borgmatic does for that repository; what had to be saved is what borg lists for the very call that
borgmatic would make now (`calls.py`). What borgmatic adds of its own, its manifest and configuration, is not compared.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from borg_lvm.plugin_api import Entry, Invocation, Programs, ReadBack, Saved, Selection, Span, Tainted
from borg_lvm_hooks.commands.borg import command_lines, version
from borg_lvm_hooks.commands.borg import read_back as borg
from borg_lvm_hooks.commands.borg import taint as borg_taint
from borg_lvm_hooks.commands.borgmatic import calls, taint, types
from borg_lvm_hooks.commands.borgmatic.arguments import CommandLine
from borg_lvm_hooks.commands.borgmatic.calls import Call
from borg_lvm_hooks.commands.borgmatic.configuration import Configuration
from borg_lvm_hooks.commands.borgmatic.limits import Config, ConfigurationError
from borg_lvm_hooks.commands.borgmatic.sources import Reader

DRY_RUN = "borgmatic create --dry-run, and for each repository borg create --dry-run --list and borg debug dump-archive"
HOW = {"list": DRY_RUN, "sample": f"{DRY_RUN}, borg export-tar", "all": f"{DRY_RUN}, borg export-tar"}
CALL = Call((), {})
"""Stands for the call of borg that has made an archive which is restored: what it has is taken as it is."""
UNCLEAR = "its sources must all have the same directory before a `/./`, and borg must say which release it is"
OWN = "/borgmatic/"
"""What borgmatic 2 adds, but not in its dry run, lies in a directory that borg 1.4 stores as if it were this one."""


@dataclass(frozen=True)
class Creation:
    """What borgmatic has borg create for one repository of one file of its configuration.

    `prefix` is what borg takes off all sources.
    """

    file: str
    config: Config
    sources: frozenset[str]
    prefix: str = ""


def answer(invocation: Invocation, line: CommandLine, loaded: Sequence[Configuration]) -> ReadBack:
    """Say how what the configuration files have saved is read back."""
    creations = []
    for file in loaded:
        for config in file.repositories:
            if not taint.is_wanted(config, line.repository):
                continue
            reader = Reader(invocation, config)
            try:
                named = tuple(reader.sources())
            except ConfigurationError as error:
                return ReadBack(str(error))
            prefix = _prefix(invocation, config, named)
            if why := _unreadable(config, relative=bool(reader.relative)) or ("" if prefix is not None else UNCLEAR):
                return ReadBack(f"{taint.target(config)[0]}: {why}")
            creations.append(Creation(file.path, config, frozenset(map(os.path.normpath, named)), prefix or ""))
    if not creations:
        return ReadBack("borgmatic's configuration names no repository")

    def archives(programs: Programs, span: Span) -> Sequence[Saved]:
        return list(_archives(invocation, line, creations, programs, span))

    def restored(programs: Programs, which: Span | str) -> Saved:
        return _restored(invocation, creations, programs, which)

    incomparable = (
        f"{taint.target(config)[0]}: {why}"
        for config in (creation.config for creation in creations)
        if (why := _incomparable(config))
    )
    return ReadBack(next(incomparable, ""), archives, HOW, restored)


def _prefix(invocation: Invocation, config: Config, sources: Sequence[str]) -> str | None:
    """Return what borg takes off all sources; None if their names do not lead back, or no borg says what it does."""
    if not any(borg.SLASHDOT in source for source in sources):
        return ""
    if (prefix := borg.prefix(sources)) is None:
        return None
    place = taint.place(invocation, config)
    strips = version.strips_prefixes(replace(invocation, argv=place.program, env={**invocation.env, **place.env}))
    return None if strips is None else prefix if strips else ""


def _unreadable(config: Config, *, relative: bool) -> str:
    """Say why what is saved in one repository is not read back; nothing if that is possible."""
    why = "its sources are relative to borgmatic's working directory" if relative else ""
    return taint.unreachable(config) or why


def _incomparable(config: Config) -> str:
    """Say why what is saved in one repository is not compared, though it can be restored; nothing if that is so."""
    if config.get("read_special"):
        return "what is on a device (read_special) is not compared"
    if any(True for _ in types.databases(config)):
        return "of databases that borgmatic dumps it is not known which other files it leaves out for them"
    return ""


def _restored(
    invocation: Invocation, creations: Sequence[Creation], programs: Programs, which: Span | str
) -> BorgmaticArchive:
    """Return the archive of a name, `[REPOSITORY::]NAME`, or the one that a run of a span has made.

    Of several repositories it is the first one. Raises: LookupError, ProgramError.
    """
    location, _, name = which.rpartition("::") if isinstance(which, str) else ("", "", "")
    fitting = [creation for creation in creations if not location or taint.target(creation.config)[0] == location]
    if not fitting:
        known = ", ".join(dict.fromkeys(taint.target(creation.config)[0] for creation in creations))
        raise LookupError(f"borgmatic's configuration has no repository {location}, but {known}")
    files = {creation.file for creation in fitting}
    if len(files) > 1:
        raise LookupError(
            f"borgmatic has {len(files)} configuration files, and an archive of each; give borgmatic one of them "
            "(--config FILE), or name the archive (--archive REPOSITORY::NAME)"
        )
    if isinstance(which, str):
        return BorgmaticArchive(invocation, fitting[0], name, CALL, programs)
    place = taint.place(invocation, fitting[0].config)
    archives = borg_taint.Borg(place, Tainted(which, "keep", programs.output)).archives(taint.is_of(fitting[0].config))
    if len(archives) != 1:
        raise LookupError(
            f"{place.location} has {len(archives) or 'no'} archives that this configuration has made in that run; "
            "name the archive (--archive REPOSITORY::NAME)"
        )
    return BorgmaticArchive(invocation, fitting[0], archives[0].name, CALL, programs)


def _archives(
    invocation: Invocation, line: CommandLine, creations: Sequence[Creation], programs: Programs, span: Span
) -> Iterator[Saved]:
    """Yield the archives. Several of one name in one repository were made in the order of the configuration files."""
    by_target = defaultdict(list)
    for creation in creations:
        by_target[taint.target(creation.config)].append(creation)
    recorded: dict[str, Sequence[Call]] = {}
    for (location, name), of_target in by_target.items():
        place = taint.place(invocation, of_target[0].config)
        archives = borg_taint.Borg(place, Tainted(span, "keep", programs.output)).archives(
            taint.is_of(of_target[0].config)
        )
        if len(archives) != len(of_target):
            raise LookupError(f"{location} has {len(archives)} archives {name} of this time, and not {len(of_target)}")
        for archive, creation in zip(archives, of_target, strict=True):
            if creation.file not in recorded:
                recorded[creation.file] = calls.recorded(invocation, line, creation.file, place.program, programs)
            fitting = [
                call for call in recorded[creation.file] if command_lines.location(call.words) == f"{location}::{name}"
            ]
            if not fitting:
                raise LookupError(f"{location}: borgmatic's dry run does not call borg as its configuration says")
            yield BorgmaticArchive(invocation, creation, archive.name, fitting[-1], programs)


class BorgmaticArchive(borg.BorgArchive):
    """An archive that borgmatic has had made."""

    def __init__(
        self, invocation: Invocation, creation: Creation, archive: str, call: Call, programs: Programs
    ) -> None:
        stores = "--noxattrs" not in call.words, "--noacls" not in call.words
        of_borg = borg.Creation((), invocation.cwd, True, *stores, creation.prefix)
        super().__init__(taint.place(invocation, creation.config), archive, of_borg, programs)
        self._invocation, self._call = invocation, call
        self._sources = frozenset(map(of_borg.listed, creation.sources))

    def expected(self) -> Iterator[str]:
        """Yield what the dry run lists of the sources."""
        with calls.temporary(self._invocation) as directory:
            for name in self._planned([*self._place.program, *self._call.dry_run(directory)]):
                if self._is_ours(name):
                    yield name

    def entries(self) -> Iterator[Entry]:
        """Yield the items that lie in the sources."""
        return (entry for entry in super().entries() if self._is_ours(entry.name))

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the contents of what lies in the sources."""
        return ((path, pieces) for path, pieces in super().contents(selection) if self._is_ours(path))

    def _is_ours(self, path: str) -> bool:
        """Whether a path is a source of the configuration's, or lies below one."""
        path = self._creation.listed(path)
        if "/" in self._sources and f"{path}/".startswith(OWN):
            return False
        while path not in self._sources and path != (above := os.path.dirname(path)):  # that of no path is no path
            path = above
        return path in self._sources
