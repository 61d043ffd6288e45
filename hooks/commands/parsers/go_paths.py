"""Text files and glob patterns as programs in Go, such as restic, read them."""

from __future__ import annotations

import os
import re

from borg_lvm_hooks.commands.parsers.patterns import plain


def go_text(content: bytes) -> str:
    """Decode a text file as restic does: by its byte order mark, else as it is."""
    if content.startswith(b"\xef\xbb\xbf"):
        content = content[3:]
    elif content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    return os.fsdecode(content)


# What Go's unicode.IsSpace takes for white space; Python's str.strip() takes more.
GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a" + (
    "\u2028\u2029\u202f\u205f\u3000"
)


def go_lines(content: str) -> list[str]:
    """Split as Go's bufio.ScanLines: by newlines, one carriage return before each taken off."""
    lines = content.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


class BadGlobError(Exception):
    """Go's path/filepath.ErrBadPattern."""


def go_glob(cwd: str, pattern: str) -> list[str]:
    """Expand a pattern exactly as Go's path/filepath.Glob does in the directory `cwd`.

    Raises: BadGlobError for a malformed pattern.
    """
    go_pattern(pattern)
    if not _has_meta(pattern):
        return [pattern] if os.path.lexists(os.path.join(cwd, pattern)) else []
    directory, _, name = pattern.rpartition("/")
    if "/" in pattern:
        directory = directory or "/"
    directory = directory or "."
    if _has_meta(directory):
        if directory == pattern:
            raise BadGlobError(pattern)
        directories = go_glob(cwd, directory)
    else:
        directories = [directory]
    return [path for each in directories for path in _glob_directory(cwd, each, name)]


def _glob_directory(cwd: str, directory: str, name: str) -> list[str]:
    expression = go_pattern(name)
    try:
        names = sorted(os.listdir(os.path.join(cwd, directory)), key=os.fsencode)
    except (OSError, ValueError):
        return []
    return [_go_join(directory, each) for each in names if expression.fullmatch(each)]


def _go_join(directory: str, name: str) -> str:
    return plain(f"{directory}/{name}")


def _has_meta(pattern: str) -> bool:
    return any(letter in pattern for letter in "*?[\\")


def go_pattern(pattern: str) -> re.Pattern[str]:
    r"""Translate a Go path pattern: `*` and `?` stop at `/`, `[^a-z]`, `\` escapes.

    Raises: BadGlobError for a malformed pattern.
    """
    out, at = [], 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*":
            out.append("[^/]*")
        elif letter == "?":
            out.append("[^/]")
        elif letter == "[":
            expression, at = _go_class(pattern, at)
            out.append(expression)
        else:
            if letter == "\\":
                letter, at = _letter(pattern, at)
            out.append(re.escape(letter))
    return re.compile("".join(out), re.DOTALL)


def _letter(pattern: str, at: int) -> tuple[str, int]:
    if at >= len(pattern):
        raise BadGlobError(pattern)
    return pattern[at], at + 1


def _go_class(pattern: str, at: int) -> tuple[str, int]:
    """Translate the class that begins after `[`; return it and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _class_letter(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _class_letter(pattern, at + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")  # an empty range matches nothing
    members = "".join(ranges)
    if not members:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{members}]", at + 1


def _class_letter(pattern: str, at: int) -> tuple[str, int]:
    letter, at = _letter(pattern, at)
    if letter in "-]":
        raise BadGlobError(pattern)
    if letter == "\\":
        letter, at = _letter(pattern, at)
    if at >= len(pattern):
        raise BadGlobError(pattern)
    return letter, at
