"""Reads back what GNU tar has written: the archive as a stream, and what had to be in it by a dry run.

The dry run writes to `/dev/null`: tar reads no contents when its archive is `/dev/null` (create.c, `dev_null_output`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, BinaryIO

from borg_lvm.plugin_api import (
    DamagedError,
    Entry,
    Invocation,
    Programs,
    ReadBack,
    Saved,
    Selection,
    Span,
    Stores,
    opening,
)
from borg_lvm_hooks.commands.parsers import options, tar_stream
from borg_lvm_hooks.commands.tar import names as tar_names

DRY_RUN = "tar --create --file=/dev/null --verbose"
HOW = {"list": f"{DRY_RUN} and reading the archive", "sample": f"{DRY_RUN} and reading the archive twice"}
HOW["all"] = HOW["sample"]
CANNOT = {
    "--listed-incremental": "an incremental archive has only what has changed",
    "--incremental": "an incremental archive has only what has changed",
    "--multi-volume": "an archive of several volumes is not read",
    "--transform": "its members have other names than the sources",
    "--strip-components": "its members have other names than the sources",
}
COMPRESSORS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"]\x00\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"LZIP": "lzip",
    b"\x89LZO": "lzop",
}
"""The beginning of a compressed file, and what reads it (magic(5))."""
KNOWN = frozenset("gzip pigz bzip2 pbzip2 lbzip2 xz pxz zstd pzstd lzip plzip lzop".split())
"""Programs of `--use-compress-program` that write what one of these reads."""
DAMAGE = re.compile(r"crc error|invalid|corrupt|unexpected end|integrity|checksum|[Dd]ecoding error", re.IGNORECASE)
DEVICE = re.compile("/dev/(?!shm/)")
UNHELPFUL = frozenset(
    """--file --verbose --totals --checkpoint --checkpoint-action --index-file --gzip --bzip2 --xz --lzip --lzma --lzop
    --zstd --compress --auto-compress --use-compress-program --verify --block-number --full-time --quoting-style --utc
    --show-transformed-names --to-command --label""".split()
)
"""Options that change how the archive is written, or what is said, not what is saved."""
LABEL = b"V"
"""The type of the member that `--label` makes."""
HARMLESS = re.compile("(?:glob)?exthdr[.](?:name|mtime):?=.*|delete=[ac]time|(?:[ac]time|comment):?=.*")
"""What `--pax-option` may say of headers of which none is compared."""
OVERRIDES = {"mode": ("--mode",), "uid": ("--owner", "--owner-map"), "gid": ("--group", "--group-map")}


@dataclass(frozen=True)
class Creation:
    """The `tar --create` that has made an archive: its dry run, and where the names in the archive lead.

    `without` are the fields of an entry that its options set to something else.
    """

    archive: str
    dry_run: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    stores: Stores
    xattrs: bool
    lists: bool
    without: tuple[str, ...]

    def path(self, stored: str) -> str:
        """Return where a member lay. Raises: DamagedError for a name that no source leads to."""
        name = stored.rstrip("/") or "/"
        for prefix, place in self.places:
            if name == prefix or not prefix or name.startswith(prefix.rstrip("/") + "/"):
                return os.path.normpath(f"{place.rstrip('/')}/{name[len(prefix) :].lstrip('/')}")
        raise DamagedError(f"the archive has {stored!r}, which lies below no source")


def answer(
    invocation: Invocation, parsed: options.Parsed, action: str, words: Sequence[str], sources: Sequence[str]
) -> ReadBack:
    """Say how what a command line makes is read back."""
    if why := _refused(invocation, parsed, action, words):
        return ReadBack(why)
    (archive,) = _archives(invocation, parsed)
    creation = Creation(
        invocation.absolute(archive),
        (invocation.argv[0], *_dry_run(parsed)),
        _places(parsed, words, sources),
        Stores(_step(parsed), hard_links=not parsed.has("--hard-dereference")),
        parsed.has("--xattrs") and not parsed.has("--xattrs-include", "--xattrs-exclude", "--no-xattrs"),
        parsed.has("--acls") and not parsed.has("--no-acls"),
        tuple(_without(parsed)),
    )

    def archives(programs: Programs, span: Span) -> Sequence[Saved]:
        _written(creation.archive)
        return [TarArchive(creation, programs)]

    def restored(programs: Programs, which: Span | str) -> Saved:
        if isinstance(which, str):
            named = replace(creation, archive=invocation.absolute(which))
            _written(named.archive)
            return TarArchive(named, programs)
        (saved,) = archives(programs, which)
        written = _written(creation.archive)
        if not which.begin <= written <= which.end:
            raise LookupError(
                f"{creation.archive} was not written in that run, but at another time ({_time(written)}); name the "
                "file of that run's (--archive FILE)"
            )
        return saved

    return ReadBack("", archives, HOW, restored)


def _written(archive: str) -> float:
    """Return when an archive was written. Raises: LookupError when it cannot be read."""
    try:
        with opening.plain(archive, links=True) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise LookupError(f"there is no archive {archive}: {error.strerror}") from error


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(" ", "seconds")


def _archives(invocation: Invocation, parsed: options.Parsed) -> tuple[str, ...]:
    return parsed.values("--file") or tuple(filter(None, [invocation.env.get("TAPE", "")]))


def _refused(invocation: Invocation, parsed: options.Parsed, action: str, words: Sequence[str]) -> str:
    if action != "create":
        return f"tar --{action} adds to an archive, which has other members as well"
    archives = _archives(invocation, parsed)
    if len(archives) != 1 or archives[0] == "-" or DEVICE.match(archives[0]):
        return "tar writes to its standard output or to a device: name a file (--file)"
    if ":" in archives[0].partition("/")[0] and not parsed.has("--force-local"):
        return "tar writes to another machine, from which the archive is not read"
    return next((f"{why} (tar's option {name})" for name, why in CANNOT.items() if parsed.has(name)), "") or _unclear(
        parsed, words
    )


def _unclear(parsed: options.Parsed, words: Sequence[str]) -> str:
    """Say why an archive cannot be read, or its names do not lead back to the sources."""
    program = parsed.last("--use-compress-program")
    if program and os.path.basename(program.split()[0]) not in KNOWN:
        return f"nobody knows how to read what {program.split()[0]} has written"
    headers = (header for value in parsed.values("--pax-option") for header in value.split(","))
    if not all(map(HARMLESS.fullmatch, headers)):
        return "what is stored of each file is changed by tar's option --pax-option"
    stored = [_stored(parsed, word) for word in words]
    if any(".." in word.split("/") for word in words) or len(set(stored)) != len(stored):
        return "the sources of tar must have names that lead back to them: each a name of its own, without `..`"
    return ""


def _stored(parsed: options.Parsed, word: str) -> str:
    """Return how tar stores a name that it is given: without slashes at its ends, unless an option says otherwise."""
    name = word.rstrip("/") or "/"
    return name if parsed.has("--absolute-names") else name.lstrip("/")


def _places(parsed: options.Parsed, words: Sequence[str], sources: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = [(_stored(parsed, word), source) for word, source in zip(words, sources, strict=True)]
    return tuple(sorted(pairs, key=lambda pair: len(pair[0]), reverse=True))


def _step(parsed: options.Parsed) -> int:
    """Return how exact tar's times are, in ns: only POSIX archives have fractions of a second."""
    given = [item for item in parsed.given() if item.name in ("--format", "--posix", "--old-archive", "--portability")]
    last = given[-1] if given else None
    posix = last is not None and (last.name == "--posix" or last.value in ("posix", "pax"))
    implied = last is None and parsed.has("--xattrs", "--acls", "--selinux")
    return 1 if posix or implied else 10**9


def _without(parsed: options.Parsed) -> Iterator[str]:
    for field, names in OVERRIDES.items():
        if parsed.has(*names):
            yield field
    if parsed.has("--mtime"):
        yield "mtime"


def _dry_run(parsed: options.Parsed) -> Iterator[str]:
    """Yield the words of the same command line that saves nothing and lists all, by the names in the archive."""
    yield from ("--file=/dev/null", "--verbose", "--quoting-style=escape", "--show-transformed-names")
    for item in parsed.items:
        if isinstance(item, options.Word):
            yield item.text if not item.text.startswith("-") else f"--add-file={item.text}"
        elif item.name in UNHELPFUL:
            continue
        elif item.value is None or item.name.startswith("--"):
            yield item.name if item.value is None else f"{item.name}={item.value}"
        else:
            yield from (item.name, item.value)


class TarArchive(Saved):
    """An archive of tar's."""

    def __init__(self, creation: Creation, programs: Programs) -> None:
        self.name, self.stores = creation.archive, creation.stores
        self._creation, self._programs = creation, programs

    def expected(self) -> Iterator[str]:
        """Yield what tar would save now."""
        with self._programs.reading(self._creation.dry_run, env={"TAR_OPTIONS": ""}) as stream:
            for line in stream:
                yield self._creation.path(tar_names.unquote(os.fsdecode(line.rstrip(b"\n"))))

    def entries(self) -> Iterator[Entry]:
        """Yield all members."""
        for member in self._members():
            info = member.info
            linked = self._creation.path(info.linkname) if info.islnk() else ""
            entry = tar_stream.entry(
                info, self._creation.path(info.name), linked, xattrs=self._creation.xattrs, lists=self._creation.lists
            )
            overridden: dict[str, Any] = dict.fromkeys(self._creation.without)
            yield replace(entry, **overridden)

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the contents of those that are wanted; all of the archive is read for that."""
        for member in self._members():
            if member.info.isreg():
                path = self._creation.path(member.info.name)
                if selection.wants(path):
                    yield path, member.pieces

    def _members(self) -> Iterator[tar_stream.Member]:
        with self._reading() as stream:
            yield from (member for member in tar_stream.members(stream) if member.info.type != LABEL)

    @contextmanager
    def _reading(self) -> Iterator[BinaryIO]:
        """Have what the archive holds. It is opened once: others who may write its directory can exchange it."""
        try:
            opened = opening.plain(self._creation.archive, links=True)
        except OSError as error:
            raise DamagedError(f"the archive cannot be opened: {error.strerror}") from error
        with opened as file:
            head = os.pread(file.fileno(), 8, 0)
            program = next((name for magic, name in COMPRESSORS.items() if head.startswith(magic)), "")
            # zstd reads no link but with -f, and the path of what is opened is one.
            argv = [program, "-dcf" if program == "zstd" else "-dc"] if program else ["cat"]
            with tar_stream.judged(self._programs, [*argv, "--", opening.magic(file)], {}, DAMAGE) as stream:
                yield stream
