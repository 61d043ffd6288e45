"""Which paths borgmatic has borg read, for one repository of one configuration, and what of them borg leaves out.

borgmatic 2 expands globs and `~`, and writes all down in a file of patterns; 1.7 hands files of patterns to borg as
they are, and in another order. In the end it is borg that reads the lines, so its rules count: whatever any release has
borg read is a source, and only what every release has borg exclude is left out. Sources: borgmatic 2.1.10,
actions/pattern.py, borg/pattern.py; 1.7.7, borg/create.py.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from borg_lvm.plugin_api import Excluded, Invocation
from borg_lvm_hooks.commands.borg import excludes
from borg_lvm_hooks.commands.borg.excludes import Rule
from borg_lvm_hooks.commands.borgmatic.limits import PATHS, Config, ConfigurationError, expand_user, usable
from borg_lvm_hooks.commands.parsers import patterns

NONE: frozenset[str] = frozenset()
STYLE = re.compile(r"(?P<style>(?:fm|sh|re|pp|pf):)?(?P<path>.*)", re.DOTALL)


class Reader:
    """Finds the sources; `working` is borgmatic's working directory, where borg runs, as configured or empty.

    `relative` are the sources that borg is given by relative names, as far as they have been found.
    """

    def __init__(self, invocation: Invocation, config: Config) -> None:
        self.invocation = invocation
        self.config = config
        self.working = expand_user(config.get("working_directory") or "", invocation)
        self.there = Invocation(invocation.argv, invocation.env, invocation.absolute(self.working).rstrip("/") or "/")
        self.relative: set[str] = set()

    def sources(self) -> Iterator[str]:
        """Yield the sources, absolute.

        Raises: ConfigurationError.
        """
        for directory in self._entries("source_directories"):
            yield from self._named(directory)
        for entry in self._entries("patterns"):
            yield from self._pattern(entry)
        for name in self._entries("patterns_from"):
            for line in self._lines(name):
                yield from self._pattern(line)

    def excluded(self, sources: Sequence[str], extra: Sequence[Rule]) -> tuple[Excluded, ...]:
        """Return what borg does not read of these sources; `extra` are the rules of its further options.

        Raises: ConfigurationError.
        """
        new = excludes.excluded([*self._rules(), *extra])
        old = {(item.path, item.inside) for item in excludes.excluded([*self._old_rules(), *extra])}
        absolute = [source for source in sources if source not in self.relative]
        return excludes.of_roots([item for item in new if (item.path, item.inside) in old], absolute)

    def _rules(self) -> Iterator[Rule]:
        """Yield the rules in the one file that borgmatic 2 writes; it expands `~` in each."""
        entries = self._texts("patterns")
        listed = [line for name in self._entries("patterns_from") for line in self._lines(name)]
        first = list(excludes.of_commands(entries, "patterns"))
        every = list(excludes.of_commands([*entries, *listed], "patterns"))  # a style counts for the rest of the file
        for rule in [*first, *self._excludes(), *every[len(first) :], *self._excludes_from()]:
            yield replace(rule, pattern=expand_user(rule.pattern, self.invocation))

    def _old_rules(self) -> Iterator[Rule]:
        """Yield the rules in the files that borgmatic 1.7 gives to borg; it expands `~` in `exclude_patterns` alone."""
        for name in self._entries("patterns_from"):
            yield from excludes.of_commands(list(self._lines(name)), "patterns_from")
        yield from excludes.of_commands(self._texts("patterns"), "patterns")
        yield from self._excludes_from()
        for text in self._texts("exclude_patterns"):
            yield Rule("!", *excludes.styled(expand_user(text, self.invocation), "fm"), "exclude_patterns")

    def _excludes(self) -> Iterator[Rule]:
        for text in self._entries("exclude_patterns"):
            if len(list(patterns.clean_lines(text))) > 1:
                yield excludes.UNKNOWN  # the other lines are rules of any kind to borg
            yield Rule("!", *excludes.styled(text.strip(), "fm"), "exclude_patterns")

    def _excludes_from(self) -> Iterator[Rule]:
        for name in self._entries("exclude_from"):
            try:
                lines = list(self._lines(name))
            except ConfigurationError:  # it names no source: nothing that may be excluded is
                yield excludes.UNKNOWN
                return
            for line in lines:
                yield Rule("!", *excludes.styled(line, "fm"), f"exclude_from {name}:")

    def _entries(self, name: str) -> Sequence[str]:
        entries: Sequence[str] = self.config.get(name, ())
        return entries

    def _texts(self, name: str) -> list[str]:
        """Return the lines that borg finds in the entries of a setting."""
        return list(patterns.clean_lines("\n".join(self._entries(name))))

    def _named(self, directory: str) -> Iterator[str]:
        """Yield a source directory, expanded; for 1.7, which has other blanks and another working directory, too."""
        roots = [root for path in self._expanded(directory, self.working) for root in _roots(f"R {path}")]
        yield from map(self._absolute, roots)
        for path in self._expanded(directory, ""):
            if path not in roots and os.path.lexists(self.there.absolute(path)):
                yield self._absolute(path)

    def _pattern(self, text: str) -> Iterator[str]:
        """Yield the roots in an entry of `patterns`, which may be several lines to borg."""
        plain = _roots(text)
        kind, _, rest = text.strip().partition(" ")
        roots = plain
        if kind == "R" and (parts := STYLE.fullmatch(rest)):
            expanded = self._expanded(parts["path"], self.working)
            if expanded != [parts["path"]]:
                roots = [root for path in expanded for root in _roots(f"R {parts['style'] or ''}{path}")]
        yield from map(self._absolute, roots)
        yield from (
            self._absolute(path) for path in plain if path not in roots and os.path.lexists(self.there.absolute(path))
        )

    def _lines(self, name: str) -> Iterator[str]:
        """Yield the lines of files of patterns, which borgmatic 2 opens in its own directory, and borg in the other."""
        files = self._expanded(name, self.working)
        if name not in files and os.path.lexists(self.invocation.absolute(name)):
            files.append(name)
        for file in files:
            content = _content(self.invocation, file)
            other = self.there.absolute(file)
            if os.path.lexists(other) and _content(self.there, file) != content:
                problem = f"borgmatic's patterns_from {name!r} is another file in its working_directory"
                raise ConfigurationError(problem, "give its full path")
            yield from patterns.clean_lines(content)

    def _expanded(self, directory: str, working: str) -> list[str]:
        """Expand `~` and globs; what matches nothing stays as it is."""
        path = expand_user(usable(directory, "borgmatic's source"), self.invocation)
        full = os.path.join(working, path)
        names = sorted(glob.glob(full, root_dir=self.invocation.cwd))
        if full != path:
            names = [name.removeprefix(os.path.join(working, "")) for name in names]
        return names or [path]

    def _absolute(self, path: str) -> str:
        """Return the path that borg reads: it takes `..` out by name before it looks at the disk."""
        if ".." in path.split("/"):
            path = os.path.normpath(path)
        absolute = self.there.absolute(path)
        absolute = "/" + absolute.lstrip("/") if absolute.startswith("//") else absolute
        if not path.startswith("/"):
            self.relative.add(absolute)
        return absolute


def left_out(calls: Sequence[tuple[Sequence[str], Sequence[Excluded]]]) -> tuple[Excluded, ...]:
    """Return what no call of borg reads; of each call there are its sources, and what it excludes of them."""
    options: dict[tuple[str, bool], str] = {}
    left: list[dict[tuple[str, bool], frozenset[str]]] = []
    for _, excluded in calls:
        left.append({})
        for item in excluded:
            place = item.path, item.inside
            options.setdefault(place, item.option)
            left[-1][place] = left[-1].get(place, NONE) | item.sources
    given = [frozenset(sources) for sources, _ in calls]
    every = []
    for (path, inside), option in options.items():
        outs = [of_call.get((path, inside), NONE) for of_call in left]
        read = NONE.union(*(sources - out for sources, out in zip(given, outs, strict=True)))
        every.append(Excluded(path, option, inside, NONE.union(*outs) - read))
    return tuple(item for item in every if item.sources)


def _content(invocation: Invocation, file: str) -> str:
    try:
        content = patterns.text(invocation, file, "borgmatic's pattern file")
    except patterns.UnreadableError as error:
        problem, _, remedy = str(error).rpartition("; ")
        raise ConfigurationError(problem, remedy) from error
    if "\0" in content:
        raise ConfigurationError(f"borgmatic's pattern file {file!r} has a NUL in it", f"correct it, or {PATHS}")
    return content


def _roots(text: str) -> list[str]:
    """Return the roots that borg finds in lines of patterns."""
    return list(filter(None, map(patterns.borg_root, patterns.clean_lines(text))))
