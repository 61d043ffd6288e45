"""The paths that command lines name in a round-about way: lists in files, patterns, outputs.

Shared by the plugins for backup commands; reads only regular files, because a pipe can be read but once.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from borg_lvm.plugin_api import Invocation, LivePath

LARGEST = 64 << 20
"""bytes of a list that are read: a million paths."""


class UnreadableError(Exception):
    """A list cannot be read the way the program will read it; the text is a whole sentence."""


def contents(invocation: Invocation, path: str, what: str) -> bytes:
    """Read the whole file that the command line names as `what`; a pipe or a terminal is left alone.

    Raises: UnreadableError, with a sentence for `Reading.problems`.
    """
    try:
        # Without waiting: the opening of a pipe that nobody writes to would never end.
        with open(invocation.absolute(path), "rb", opener=_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableError(_not_regular(invocation, path, what))
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        why = error.strerror if isinstance(error, OSError) else "no file can have such a name"
        raise UnreadableError(f"{what} {path!r} cannot be read ({why}); name the sources with --path") from error
    if len(content) > LARGEST:
        raise UnreadableError(f"{what} {path!r} is larger than {LARGEST >> 20} MiB; name the sources with --path")
    return content


def _at_once(path: str, flags: int) -> int:
    """Open a file; a pipe is not opened at all, for its writer would notice."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _not_regular(invocation: Invocation, path: str, what: str) -> str:
    return (
        f"{what} {path!r} is not a regular file, and reading it would take it away from {invocation.program};"
        " name the sources with --path"
    )


def text(invocation: Invocation, path: str, what: str) -> str:
    """Read a file as `contents` does, as text with surrogate escapes."""
    return os.fsdecode(contents(invocation, path, what))


def clean_lines(content: str) -> Iterator[str]:
    """Yield the lines that count in a borg pattern file: stripped, not empty, no comments."""
    for line in re.split(r"\r\n|\r|\n", content):  # Python's universal newlines, nothing more
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield stripped


def borg_root(command: str) -> str | None:
    """Return the path of a borg pattern command `R path`, None for another command."""
    return command[1:].lstrip() or None if command[:1] in ("R", "r") else None


def inside(path: str, directory: str) -> bool:
    """Return whether `path` is `directory` or lies below it, by name alone."""
    path, directory = plain(path), plain(directory)
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def plain(path: str) -> str:
    """Return the shortest name of a path, by name alone; Python leaves two slashes at the beginning in place."""
    path = os.path.normpath(path)
    return path[1:] if path.startswith("//") else path


def beside(live: Iterable[LivePath], sources: Iterable[str]) -> tuple[LivePath, ...]:
    """Drop each path that holds a source, unless a wider source holds it: nothing covers it, so it is live anyway.

    A path that is itself a source goes as well: the user asked for its frozen copy.
    """
    wanted = sorted({plain(source) for source in sources})
    kept = []
    for item in unique(live):
        path = plain(item.path)
        if not _holds(path, wanted) or any(_is_one(directory, wanted) for directory in _above(path)):
            kept.append(item)
    return tuple(kept)


def _is_one(path: str, ordered: Sequence[str]) -> bool:
    at = bisect_left(ordered, path)
    return ordered[at : at + 1] == [path]


def _holds(path: str, ordered: Sequence[str]) -> bool:
    """Return whether one of the paths is this one or below it."""
    directory = path.rstrip("/") + "/"
    below = ordered[bisect_left(ordered, directory) :][:1]
    return _is_one(path, ordered) or bool(below and below[0].startswith(directory))


def _above(path: str) -> Iterator[str]:
    """Yield the directories above a normal path, by name alone."""
    while path != (above := os.path.dirname(path)):
        yield above
        path = above


def unique(live: Iterable[LivePath]) -> tuple[LivePath, ...]:
    """Name each live path but once, in order; made if any mention wants it made, frozen only as far as all allow."""
    merged: dict[str, LivePath] = {}
    for item in live:
        known = merged.get(item.path)
        if known is None:
            merged[item.path] = item
        else:
            merged[item.path] = replace(
                known,
                make=known.make or item.make,
                written=known.written if known.written == item.written else None,
                unsaved=known.unsaved and item.unsaved,
            )
    return tuple(merged.values())


def output_clashes(program: str, outputs: Iterable[LivePath], sources: Iterable[str]) -> list[str]:
    """Say which path that the program must write is itself a source: both is impossible."""
    wanted = {plain(source) for source in sources}
    return [
        f"{item.path!r} ({item.reason}) must be writable for {program}, but it is itself a source that has to be"
        " frozen; let it lie elsewhere, or in a directory of its own"
        for item in unique(outputs)
        if plain(item.path) in wanted
    ]


def before_placeholder(path: str) -> str:
    """Return the directory above a path's first part with a placeholder such as `{hostname}`, else the path."""
    head, brace, _ = path.partition("{")
    return head.rpartition("/")[0] or "/" if brace else path


def directory_of(path: str) -> str:
    """Return the directory in which a program makes the file `path`."""
    return os.path.dirname(path.rstrip("/")) or "/"


def written(path: str, reason: str) -> LivePath:
    """Return what must be live for a file that a program goes on with: it alone, or the directory of it."""
    return LivePath(path if os.path.isfile(path) else directory_of(path), reason)


def temporary_directory(invocation: Invocation) -> LivePath:
    """Return the directory for temporary files, as most programs find it."""
    return LivePath(invocation.absolute(invocation.env.get("TMPDIR") or "/tmp"), "temporary files")  # noqa: S108


def ssh_directory() -> LivePath:
    """Return ssh's own directory: it writes known hosts and control sockets there. It does not ask for `$HOME`.

    It also works, with a warning for a host that it does not know yet, where it cannot write them.
    """
    directory = os.path.join(pwd.getpwuid(os.getuid()).pw_dir, ".ssh")
    return LivePath(directory, "ssh's known hosts and control sockets", written=())


def secrets_directory(invocation: Invocation, *commands: str | None) -> Iterator[LivePath]:
    """Yield GnuPG's directory if a command prints the pass phrase: `gpg` and `pass` need its socket and its locks."""
    directory = invocation.absolute(invocation.env.get("GNUPGHOME") or os.path.join(invocation.home(), ".gnupg"))
    if any(commands) and os.path.isdir(directory):
        yield LivePath(directory, "GnuPG's agent and locks, for the pass phrase")
