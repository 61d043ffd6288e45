"""Which paths borgmatic has borg read, for one repository of one configuration.

borgmatic 2 expands globs and `~`, and writes all down in a file of patterns; 1.7 hands files of patterns to borg as
they are. In the end it is borg that reads the lines, so its rules count: whatever any release has borg read is a
source. Sources: borgmatic 2.1.10, actions/pattern.py, borg/pattern.py; 1.7.7, borg/create.py.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

from borg_lvm.plugin_api import Invocation
from borg_lvm_hooks.commands.borgmatic.limits import PATHS, Config, ConfigurationError, expand_user, usable
from borg_lvm_hooks.commands.parsers import patterns

STYLE = re.compile(r"(?P<style>(?:fm|sh|re|pp|pf):)?(?P<path>.*)", re.DOTALL)


class Reader:
    """Finds the sources; `working` is borgmatic's working directory, where borg runs, as configured or empty."""

    def __init__(self, invocation: Invocation, config: Config) -> None:
        self.invocation = invocation
        self.config = config
        self.working = expand_user(config.get("working_directory") or "", invocation)
        self.there = Invocation(invocation.argv, invocation.env, invocation.absolute(self.working).rstrip("/") or "/")

    def sources(self) -> Iterator[str]:
        """Yield the sources, absolute.

        Raises: ConfigurationError.
        """
        for directory in self.config.get("source_directories", ()):
            yield from self._named(directory)
        for entry in self.config.get("patterns", ()):
            yield from self._pattern(entry)
        for name in self.config.get("patterns_from", ()):
            for line in self._lines(name):
                yield from self._pattern(line)

    def _named(self, directory: str) -> Iterator[str]:
        """Yield a source directory, expanded; for 1.7, which has other blanks and another working directory, too."""
        found = [root for path in self._expanded(directory, self.working) for root in _roots(f"R {path}")]
        yield from map(self._absolute, found)
        for path in self._expanded(directory, ""):
            if path not in found and os.path.lexists(self.there.absolute(path)):
                yield self._absolute(path)

    def _pattern(self, text: str) -> Iterator[str]:
        """Yield the roots in an entry of `patterns`, which may be several lines to borg."""
        plain = _roots(text)
        kind, _, rest = text.strip().partition(" ")
        found = plain
        if kind == "R" and (parts := STYLE.fullmatch(rest)):
            expanded = self._expanded(parts["path"], self.working)
            if expanded != [parts["path"]]:
                found = [root for path in expanded for root in _roots(f"R {parts['style'] or ''}{path}")]
        yield from map(self._absolute, found)
        yield from (
            self._absolute(path) for path in plain if path not in found and os.path.lexists(self.there.absolute(path))
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
        found = sorted(glob.glob(full, root_dir=self.invocation.cwd))
        if full != path:
            found = [name.removeprefix(os.path.join(working, "")) for name in found]
        return found or [path]

    def _absolute(self, path: str) -> str:
        """Return the path that borg reads: it takes `..` out by name before it looks at the disk."""
        if ".." in path.split("/"):
            path = os.path.normpath(path)
        path = self.there.absolute(path)
        return "/" + path.lstrip("/") if path.startswith("//") else path


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
