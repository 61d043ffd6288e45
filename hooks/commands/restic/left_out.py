"""Whether `restic backup` may leave something out of a directory that it saves: never `no` where it may.

For what its dry run does not name: links, pipes and devices. Only the last part of a pattern is compared, since the
directory itself was not left out. Source: restic's internal/filter/filter.go, cmd/restic/exclude.go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from borg_lvm.plugin_api import Invocation
from borg_lvm_hooks.commands.parsers import go_paths, options, patterns
from borg_lvm_hooks.commands.restic import pflag

PATTERNS = "--exclude", "--iexclude"
FILES = "--exclude-file", "--iexclude-file"
CACHE = "CACHEDIR.TAG"
ANYTHING = re.compile(".*", re.DOTALL)
LARGER_THAN_LINKS = re.compile(r"\d+[mMgGtT]")
"""Sizes of `--exclude-larger-than` beyond all that a link may have (PATH_MAX)."""


def reader(invocation: Invocation, parsed: options.Parsed) -> Callable[[str], bool]:
    """Return a test of whether a path, which is no file and no directory, may be left out."""
    names = list(_names(invocation, parsed))
    marks = [value.partition(":")[0] for value in parsed.values("--exclude-if-present")]
    marks += [CACHE] if pflag.is_on(parsed, "--exclude-caches") else []
    larger = any(not LARGER_THAN_LINKS.fullmatch(value) for value in parsed.values("--exclude-larger-than"))
    stays = pflag.is_on(parsed, "--one-file-system")

    def may(path: str) -> bool:
        directory, last = os.path.split(path)
        return (
            larger
            or any(name.fullmatch(last) or name.fullmatch(last.lower()) for name in names)
            or any(os.path.lexists(os.path.join(directory, mark)) for mark in marks)
            or (stays and _device(path) != _device(directory))
        )

    return may


def _device(path: str) -> int | None:
    with suppress(OSError):
        return os.lstat(path).st_dev
    return None


def _names(invocation: Invocation, parsed: options.Parsed) -> Iterator[re.Pattern[str]]:
    """Yield what the names that may be left out look like; a pattern for small letters has small ones."""
    for option in PATTERNS:
        for pattern in parsed.values(option):
            yield _last(pattern, small=option == "--iexclude")
    for option in FILES:
        for path in parsed.values(option):
            try:
                text = go_paths.go_text(patterns.contents(invocation, path, "restic's exclude file"))
            except (patterns.UnreadableError, ValueError):
                yield ANYTHING
                return
            for line in go_paths.go_lines(text):
                pattern = line.strip(go_paths.GO_SPACE)
                if pattern and not pattern.startswith("#"):
                    yield ANYTHING if "$" in pattern else _last(pattern, small=option == "--iexclude-file")


def _last(pattern: str, *, small: bool) -> re.Pattern[str]:
    """Return what the last part of a pattern looks like."""
    last = os.path.basename(os.path.normpath(pattern))
    if pattern.startswith("!") or last in ("", ".", "..") or "**" in last:
        return ANYTHING
    try:
        return go_paths.go_pattern(last.lower() if small else last)
    except go_paths.BadGlobError:
        return ANYTHING
