"""Collects the names that GNU tar reads, in the order given: `-C` and the lists of `-T` change what they mean.

Source: GNU tar 1.34, names.c (read_name_from_file, read_next_name, handle_option).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from borg_lvm.plugin_api import Invocation
from borg_lvm_hooks.commands.parsers import options, patterns
from borg_lvm_hooks.commands.tar.option_table import TABLE

# Options of which the position counts where names are read.
QUOTING = {"--unquote": True, "--no-unquote": False}
# A list may name another one.
MOST_LISTS = 50
# What C's isspace takes for white space, and what parts the words of an option in a list.
SPACE = " \t\n\v\f\r"
DELIMITERS = " \t\n"
# The escapes of GNU paxutils' unquote_string.
ESCAPES = {"\\": "\\", "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "?": "\x7f"}


class Names:
    """The paths that tar reads (`sources`), and how they are named; `problems` say what cannot be followed."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.sources: list[str] = []
        self.problems: list[str] = []
        self.words: list[str] = []
        self.base = invocation.cwd
        self.unquote, self.null, self.verbatim = True, False, False
        self.lists: set[tuple[int, int]] = set()

    def take(self, items: Sequence[options.Given | options.Word]) -> None:
        """Take names and options in their order."""
        for item in items:
            if isinstance(item, options.Word):
                self._name(item.text, self.unquote)
            elif item.name == "--add-file":
                self._name(item.value or "", self.unquote)
            elif item.name == "--directory":
                self.base = _join(self.base, item.value or "")
            elif item.name == "--files-from":
                self._list(item.value or "")
            else:
                self._switch(item.name)

    def _switch(self, name: str) -> None:
        if name in QUOTING:
            self.unquote = QUOTING[name]
        elif name in ("--null", "--no-null"):
            self.null = self.verbatim = name == "--null"
        elif name in ("--verbatim-files-from", "--no-verbatim-files-from"):
            self.verbatim = name == "--verbatim-files-from"

    def _name(self, name: str, quoted: bool) -> None:
        name = unquote(name) if quoted else name
        self.words.append(name)
        self.sources.append(_join(self.base, name))

    def _list(self, path: str) -> None:
        if path == "-":
            self.problems.append(
                "tar's option --files-from=- takes the paths from standard input, which borg-lvm cannot read without"
                " taking it away from tar; name the sources with --path"
            )
            return
        try:
            content = patterns.text(self.invocation, path, "tar's list of files")
        except patterns.UnreadableError as error:
            self.problems.append(str(error))
            return
        if self._is_read_already(path):
            return
        if len(self.lists) > MOST_LISTS:
            self.problems.append(f"tar is given more than {MOST_LISTS} lists of files; name the sources with --path")
            return
        for entry in filter(None, _entries(content, null=self.null)):
            self._entry(path, entry)

    def _is_read_already(self, path: str) -> bool:
        """Return whether this list was given before: tar passes over it then."""
        try:
            info = os.stat(self.invocation.absolute(path))
        except OSError as error:
            self.problems.append(f"the list {path!r} has gone ({error.strerror}); name the sources with --path")
            return True
        again = (info.st_dev, info.st_ino) in self.lists
        self.lists.add((info.st_dev, info.st_ino))
        return again

    def _entry(self, path: str, entry: str) -> None:
        """Take a line of a list. tar undoes the escapes, and takes slashes off the end, before it looks for a dash."""
        if self.verbatim:
            self._name(entry, quoted=False)
            return
        plain = unquote(entry) if self.unquote else entry
        line = plain.rstrip("/").lstrip(SPACE)
        if line.startswith("-"):
            self._option(path, line)
        else:
            self._name(plain, quoted=False)

    def _option(self, path: str, line: str) -> None:
        """Follow `-C directory` in a list of files; any other option there is refused."""
        parsed = options.read(words(line), TABLE, options.GETOPT)
        clean = parsed.items and not (parsed.unknown or parsed.ambiguous or parsed.incomplete or parsed.words)
        if not clean or any(item.name not in ("--directory", "--files-from") for item in parsed.given()):
            self.problems.append(
                f"tar's list {path!r} has the option {line!r}, which borg-lvm does not follow; name the sources with"
                " --path"
            )
            return
        self.take(parsed.items)


def _entries(content: str, *, null: bool) -> list[str]:
    """Split a list; where it has a zero byte, tar goes on by zero bytes from there, whatever its options say."""
    if null:
        return content.split("\0")
    lines, zero, rest = content.partition("\0")
    return [*lines.split("\n"), *(rest.split("\0") if zero else ())]


def words(line: str) -> list[str]:
    """Split options in a list, or in TAR_OPTIONS, into words; none if they have escapes, or a quote without an end."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = DELIMITERS, True, ""
    try:
        return [] if "\\" in line else list(lexer)
    except ValueError:
        return []


def _join(base: str, path: str) -> str:
    return path if path.startswith("/") else f"{base.rstrip('/')}/{path}"


def unquote(name: str) -> str:
    r"""Take the escapes out of a name as tar does: `\t`, `\\`, `\101`; an unknown one stays as it is."""

    def unescaped(match: re.Match[str]) -> str:
        escape = match[1]
        if escape[0] in "01234567":
            return _byte(int(escape, 8) & 0xFF)
        return ESCAPES.get(escape, match[0])

    out = re.sub(r"\\([0-7]{1,3}|.)", unescaped, name, flags=re.DOTALL)
    try:
        return os.fsdecode(os.fsencode(out))
    except UnicodeEncodeError:  # no argument and no list has such a name
        return name


def _byte(value: int) -> str:
    return bytes([value]).decode("utf-8", "surrogateescape")
