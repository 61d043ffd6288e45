"""The plain paths among what command lines exclude: what is mounted there needs no snapshot.

Only what is certain counts: an absolute path, alone or with `/*` behind it, that nothing before it can include again.
All else is passed over, so that more is frozen than the command reads, never less.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from borg_lvm.plugin_api import Excluded, Invocation
from borg_lvm_hooks.commands.parsers import go_paths, options, patterns

WILDCARDS = frozenset("*?[]{}\\")
# Options of tar that change what its patterns mean.
TAR_MATCHING = (
    "--anchored --no-anchored --ignore-case --no-ignore-case --wildcards --no-wildcards --wildcards-match-slash"
    " --no-wildcards-match-slash"
).split()
# Options of rsync that may include again what a later one excludes, or that read rules elsewhere.
RSYNC_RULES = frozenset("--include --include-from --filter --cvs-exclude -F".split())


def plain(pattern: str, option: str, endings: Sequence[str] = ("/*", "/**")) -> Excluded | None:
    """Return what a pattern excludes if it is a plain absolute path, with one of the `endings` or none."""
    ending = next((ending for ending in sorted(endings, key=len, reverse=True) if pattern.endswith(ending)), "")
    path = pattern.removesuffix(ending) if ending else pattern
    if not path.startswith("/") or WILDCARDS & set(path) or ".." in path.split("/"):
        return None
    path = patterns.plain(path)
    return Excluded(path, f"{option} {pattern}", inside=bool(ending)) if path != "/" else None


def _is_as_written(pattern: str) -> bool:
    """Whether a pattern is a name as tar and rsync come to it: they compare text, so `//`, `/.` fit nothing."""
    parts = pattern.split("/")
    return "." not in parts[1:] and "" not in parts[1:]


def lines(invocation: Invocation, path: str) -> list[str] | None:
    """Return the lines of a file of patterns as bytes come, None if it cannot be read."""
    try:
        return patterns.text(invocation, path, "the file of patterns").split("\n")
    except patterns.UnreadableError:
        return None


def restic(invocation: Invocation, parsed: options.Parsed) -> tuple[Excluded, ...]:
    """Return what `restic backup` excludes. A pattern with `!` includes again what others exclude."""
    excluded = [(pattern, "--exclude") for pattern in parsed.values("--exclude")]
    every = [*parsed.values("--exclude", "--iexclude")]
    for path in parsed.values("--exclude-file", "--iexclude-file"):
        try:
            text = go_paths.go_text(patterns.contents(invocation, path, "restic's exclude file"))
        except (patterns.UnreadableError, ValueError):
            return ()
        listed = [line.strip(go_paths.GO_SPACE) for line in go_paths.go_lines(text)]
        every += listed
        if path in parsed.values("--exclude-file"):  # names of variables are put in there
            excluded += ((line, "--exclude-file") for line in listed if "$" not in line)
    if any(pattern.startswith("!") for pattern in every):
        return ()
    return tuple(item for pattern, option in excluded if (item := plain(pattern, option)))


def tar(parsed: options.Parsed, words: Sequence[tuple[str, str]]) -> tuple[Excluded, ...]:
    """Return what `tar --exclude=PATTERN` excludes; `words` are the names that tar was given, with their paths.

    Only what stands before all names counts in every version. A pattern fits the name as tar comes to it.
    """
    if parsed.has(*TAR_MATCHING):
        return ()
    before: list[str] = []
    for item in parsed.items:
        if isinstance(item, options.Word) or item.name in ("--files-from", "--add-file"):
            break
        if item.name == "--exclude" and not (item.value or "").endswith("/"):
            before.append(item.value or "")
    places = Counter(path for _, path in words)
    once = {f"{word.rstrip('/')}/": path for word, path in words if places[path] == 1}  # others have two names
    return tuple(item for pattern in before for item in _below(pattern, once))


def _below(pattern: str, names: Mapping[str, str]) -> Iterator[Excluded]:
    """Yield what a pattern of tar's excludes of each source whose name it begins with."""
    if not _is_as_written(pattern):
        return
    for slash in re.finditer("/", pattern):
        path = names.get(pattern[: slash.end()])
        if path is not None and (inner := plain(pattern[slash.start() :], "--exclude")):
            place = patterns.plain(f"{path}{inner.path}")
            yield Excluded(place, f"--exclude {pattern}", inside=inner.inside, sources=frozenset((path,)))


def rsync(invocation: Invocation, parsed: options.Parsed, roots: Sequence[tuple[str, str]]) -> tuple[Excluded, ...]:
    """Return what rsync excludes; `roots` are its sources, each with the directory at which its patterns begin.

    The first rule that fits counts: what comes after one that may include is not read.
    """
    excluded: list[tuple[str, str]] = []
    for item in parsed.given():
        if item.name == "--exclude":
            rules = [item.value or ""]
        elif item.name == "--exclude-from":
            listed = lines(invocation, item.value or "") if item.value != "-" else None
            if listed is None or parsed.has("--from0"):
                break
            ends = [part for line in listed for part in line.split("\r")]  # each ends a line for rsync
            if any("\0" in line for line in ends):
                break
            rules = [line for line in ends if line and not line.startswith(("#", ";"))]
        elif item.name in RSYNC_RULES:
            break
        else:
            continue
        if any(rule.startswith(("+ ", "- ", "!")) for rule in rules):
            break
        excluded += ((rule, item.name) for rule in rules)
    begun: dict[str, list[str]] = {}
    for source, root in roots:
        begun.setdefault(root, []).append(source)
    bases = [(root, frozenset(sources)) for root, sources in begun.items()]
    return tuple(item for rule, option in excluded for base in bases for item in _anchored(rule, option, *base))


def _anchored(rule: str, option: str, root: str, sources: frozenset[str]) -> Iterator[Excluded]:
    """Yield what a rule of rsync's excludes of the sources whose names begin at this root."""
    whole = rule.removesuffix("/***")
    if not _is_as_written(whole.removesuffix("/")):
        return
    inner = plain(whole.removesuffix("/") if whole != "/" else whole, option)
    if inner is None:
        return
    place = patterns.plain(f"{root}{inner.path}")
    if whole.endswith("/") and not os.path.isdir(place):
        return  # this rule is for directories alone
    yield Excluded(place, f"{option} {rule}", inside=inner.inside, sources=sources)
