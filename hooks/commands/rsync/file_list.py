"""Reads the list of `rsync --files-from=LIST DIRECTORY DESTINATION`: its names lie below the one source.

Source: rsync(1), --files-from; rsync 3.2.7 to 3.5.0: read_line in io.c, sanitize_path in util1.c.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from borg_lvm.plugin_api import Invocation
from borg_lvm_hooks.commands.parsers import options, patterns


def sources(invocation: Invocation, parsed: options.Parsed, directories: Sequence[str]) -> list[str]:
    """Return the paths of the list that counts, the last one. Raises: UnreadableError, with a sentence."""
    path = parsed.last("--files-from") or ""
    if len(directories) != 1:
        raise patterns.UnreadableError(
            "rsync takes one source directory beside --files-from, to which the names in the list are relative; leave "
            "the others out"
        )
    if path == "-" or ":" in path.partition("/")[0] or not _is_regular(invocation.absolute(path)):
        return [directories[0]]  # a list that only rsync can read names nothing outside
    return _listed(invocation, path, directories[0], zeros=is_on(parsed, "--from0", "--no-from0"))


def _is_regular(path: str) -> bool:
    """Return whether we may read the list: what is read from a pipe is lost to rsync."""
    return os.path.isfile(path) or not os.path.exists(path)


def is_on(parsed: options.Parsed, switch: str, opposite: str) -> bool:
    """Return whether a switch is on: of it and its opposite the last counts."""
    names = [item.name for item in parsed.given() if item.name in (switch, opposite)]
    return names[-1:] == [switch]


def _listed(invocation: Invocation, path: str, directory: str, *, zeros: bool) -> list[str]:
    content = patterns.text(invocation, path, "rsync's list of files")
    if "\0" in content and not zeros:
        raise patterns.UnreadableError(
            f"rsync's list {path!r} has zero bytes, at which its names end; read it with --from0"
        )
    names = [_without_dots(name) for name in _names(content, zeros=zeros) if name]
    if not names:
        raise patterns.UnreadableError(f"rsync's list {path!r} is empty; there is nothing to freeze")
    return [f"{directory.rstrip('/')}/{name}" if name else directory for name in names]


def _names(content: str, *, zeros: bool) -> list[str]:
    """Split a list by zero bytes, or by the ends of lines; comments are left out of both."""
    return [name for name in re.split(r"\0" if zeros else r"[\r\n]", content) if not name.startswith(("#", ";"))]


def _without_dots(name: str) -> str:
    """Return a name as rsync takes it: relative, and `..` never leads out of the source."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
