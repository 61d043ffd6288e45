"""The options of every release of BorgBackup from 1.1 on, as data: which of them has what.

A line is an option's names, what it takes (see `options`), and the releases that have it, `SINCE..BEFORE`; without
these it is in all. Source: `Archiver.build_parser` of each release from 1.1.0 to 1.4.5 and 2.0.0b1 to b25.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from borg_lvm.plugin_api import dataclass
from borg_lvm_hooks.commands.parsers import argparse_lines, options

Release = tuple[int, int, int, int]
"""major, minor, patch, and the number of the pre-release; `FINAL` for a release proper."""
FINAL = 1 << 20

COMMON = """
    -h --help
    --critical
    --error
    --warning
    --info -v --verbose
    --debug
    --debug-topic=
    -p --progress
    --log-json
    --lock-wait=
    --show-version
    --show-rc
    --umask=
    --no-files-cache        ..1.1.1
    --rsh=                  1.1.9..2.0.0b23
    --bypass-lock           1.1.12..2.0.0b10
    --remote-path=          ..2.0.0b23
    --remote-ratelimit=     ..2.0.0b1
    --consider-part-files   ..2.0.0b5
    --debug-profile=        ..2.0.0b23
    --iec                   1.2.0..2.0.0b23
    --remote-buffer=        1.2.0..2.0.0b1
    --upload-buffer=        1.2.0..2.0.0b23
    --upload-ratelimit=     1.2.0..2.0.0b23
    -r --repo=              2.0.0b1..
    --socket[=]             2.0.0b6..2.0.0b22
"""

MAIN = """
    -V --version
    --cockpit               2.0.0b20..
    --config=               2.0.0b21..
    --print_config=         2.0.0b21..
"""

CREATE = """
    -n --dry-run
    -s --stats
    --list
    --filter=
    --json
    -e --exclude=
    --exclude-from=
    --pattern=
    --patterns-from=
    --exclude-caches
    --exclude-if-present=
    -x --one-file-system
    --noctime
    --files-cache=
    --read-special
    --comment=
    --timestamp=
    --chunker-params=
    -C --compression=
    -c --checkpoint-interval=       ..2.0.0b10
    --ignore-inode                  ..1.2.0
    --keep-exclude-tags --keep-tag-files    ..1.2.0
    --keep-exclude-tags             1.2.0..
    --no-cache-sync                 ..2.0.0b10
    --noatime                       ..2.0.0b1
    --numeric-owner                 ..2.0.0b1
    --no-files-cache                1.1.1..1.2.0
    --exclude-nodump                1.1.1..2.0.0b18
    --nobsdflags                    1.1.1..2.0.0b1
    --nobirthtime                   1.1.3..
    --stdin-name=                   1.1.5..
    --stdin-user=                   1.1.15..
    --stdin-group=                  1.1.15..
    --stdin-mode=                   1.1.15..
    --noacls                        1.1.16..
    --noxattrs                      1.1.16..
    --atime                         1.2.0..
    --content-from-command          1.2.0..
    --noflags                       1.2.0..
    --numeric-ids                   1.2.0..
    --paths-delimiter=              1.2.0..
    --paths-from-command            1.2.0..
    --paths-from-stdin              1.2.0..
    --sparse                        1.2.0..
    --files-changed=                1.4.2..2.0.0b1 2.0.0b19..
    --exclude-dataless              1.4.5..2.0.0b1 2.0.0b22..
    --quick-stats                   1.4.5..2.0.0b1
    --checkpoint-volume=            2.0.0b5..2.0.0b10
    --no-cache-sync-forced          2.0.0b9..2.0.0b10
    --prefer-adhoc-cache            2.0.0b9..2.0.0b11
    --paths-from-shell-command      2.0.0b21..
    --pattern-roots-internal=       2.0.0b21..
    --patterns-internal=            2.0.0b21..
    --hostname=                     2.0.0b21..2.0.0b22
    --username=                     2.0.0b21..2.0.0b22
    --tags[+]                       2.0.0b21..2.0.0b25
    --digests=                      2.0.0b23..
    --map=                          2.0.0b23..
    --read-special-timeout=         2.0.0b23..
    --reuse-from=                   2.0.0b23..
    --reuse-path=                   2.0.0b23..
    --group-by=                     2.0.0b24..
    --tag=                          2.0.0b25..
"""

IGNORES_EMPTY_PATHS: Release = (2, 0, 0, 6)
"""The first release that does; others take an empty path for the working directory."""

RANGE = re.compile(r"(\d\S*)?\.\.(\d\S*)?")


def release(text: str) -> Release | None:
    """Read a release's number, as borg prints it: `1.2.4`, `2.0.0b25`, `1.4.1.dev3+gabc`; None if it is none."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?(?:(?:a|b|rc)(\d+))?", text)
    if match is None:
        return None
    major, minor, patch, pre = (int(part) if part else None for part in match.groups())
    return (major or 0, minor or 0, patch or 0, FINAL if pre is None else pre)


def _bounds(text: str) -> tuple[Release, Release]:
    match = RANGE.fullmatch(text)
    assert match, text
    since, before = ((release(part) if part else None) for part in match.groups())
    return since or (0, 0, 0, 0), before or (FINAL, 0, 0, 0)


def _lines(specification: str) -> Iterator[tuple[str, list[tuple[Release, Release]]]]:
    for line in filter(None, map(str.strip, specification.splitlines())):
        words = line.split()
        ranges = [_bounds(word) for word in words if RANGE.fullmatch(word)]
        yield " ".join(word for word in words if not RANGE.fullmatch(word)), ranges


def _names(number: Release, specification: str) -> argparse_lines.Names:
    wanted = [
        option
        for option, ranges in _lines(specification)
        if not ranges or any(since <= number < before for since, before in ranges)
    ]
    return argparse_lines.Names(options.Table("\n".join(wanted)))


@dataclass(frozen=True, eq=False)
class Tables:
    """The options of one release: before the command, and of the commands that matter."""

    release: Release
    main: argparse_lines.Names
    create: argparse_lines.Names
    with_lock: argparse_lines.Names

    @property
    def borg2(self) -> bool:
        """Whether it is borg 2, which has no `REPOSITORY::ARCHIVE`."""
        return self.release[0] >= 2


@cache
def tables(number: Release) -> Tables:
    """Return the options of a release; those of the last known one if it is newer."""
    return Tables(number, _names(number, MAIN + COMMON), _names(number, CREATE + COMMON), _names(number, COMMON))


@cache
def every() -> tuple[Tables, ...]:
    """Return the options of each release in which they have changed, in order."""
    bounds = {bound for _, ranges in _lines(MAIN + CREATE + COMMON) for pair in ranges for bound in pair}
    first = (1, 1, 0, FINAL)
    return tuple(tables(number) for number in sorted({first, *bounds}) if first <= number < (FINAL, 0, 0, 0))


@cache
def _all_names() -> argparse_lines.Names:
    lines = [option for option, _ in _lines(MAIN + CREATE + COMMON)]
    return argparse_lines.Names(options.Table("\n".join(lines)))


def distinct(args: Sequence[str]) -> list[list[Tables]]:
    """Return the releases in groups that take each word of a command line in the same way, the newest last."""
    stems = _stems(args)
    groups: dict[tuple[object, ...], list[Tables]] = {}
    for tables in every():
        taken = tuple(_taken(stem, names) for stem in stems for names in (tables.main, tables.create, tables.with_lock))
        ignores_empty = "" in args and tables.release >= IGNORES_EMPTY_PATHS
        groups.setdefault((tables.borg2, ignores_empty, taken), []).append(tables)
    return sorted(groups.values(), key=lambda group: group[-1].release)


def _stems(args: Iterable[str]) -> list[str]:
    """Return of all words what some release may take for an option's name: few, however many words there are."""
    stems: set[str] = set()
    for arg in args:
        if arg.startswith("--"):
            stem = arg.partition("=")[0]
            if stem != "--" and stem not in stems and _all_names().beginning(stem):
                stems.add(stem)
        elif arg.startswith("-"):
            stems.update(name for letter in set(arg[1:]) if (name := f"-{letter}") in _all_names().by_name)
    return sorted(stems)


@cache
def _taken(stem: str, names: argparse_lines.Names) -> tuple[tuple[str, options.Takes], ...]:
    return tuple((option.name, option.takes) for option in names.meant(stem)[0])
