"""Reads borg 1's archives back: `debug dump-archive` for all that borg stores of each path, `export-tar` for contents.

`borg list` knows neither extended attributes nor nanoseconds; `debug dump-archive` (borg 1.1 to 1.4) writes each
item as it is, a JSON object at a time. What the command had to save is what the same command line prints with
`--dry-run --list`: it opens no repository, and needs no pass phrase.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

from borg_lvm.plugin_api import (
    Entry,
    Invocation,
    Programs,
    Saved,
    Selection,
    Span,
    Stores,
    Tainted,
    acl,
    entry_type,
)
from borg_lvm_hooks.commands.borg.create import WARNINGS
from borg_lvm_hooks.commands.borg.taint import PUT_BACK, Borg, IsOurs, Repository
from borg_lvm_hooks.commands.parsers import options, tar_stream

HOW = {
    "list": "borg create --dry-run --list and borg debug dump-archive",
    "sample": "borg create --dry-run --list, borg debug dump-archive and borg export-tar",
    "all": "borg create --dry-run --list, borg debug dump-archive and borg export-tar",
}
DAMAGE = re.compile(r"IntegrityError|(?i:integrity) error|ObjectNotFound|not found in repository|Decompression")
"""What borg says when a repository lacks or misreads what an archive needs (helpers/errors.py, repository.py)."""
LATEST = (2**31 - 1 - 48 * 3600) * 10**9
"""The latest time that borg 1 stores, in ns (helpers/time.py); the earliest is 1970."""
UNHELPFUL = frozenset(
    """--stats --list --filter --json --progress --log-json --critical --error --warning --info --debug --debug-topic
    --show-version --show-rc --debug-profile --dry-run""".split()
)
"""Options of `borg create` that change what it says, not what it saves."""
MOST_WORDS = 100_000
"""Bytes of patterns on one command line; the kernel takes 128 KiB and more."""
SLASHDOT = "/./"
HEX = "\x7f"
"""What stands before bytes that are no text, as hexadecimal digits (helpers/parseformat.py, prepare_dump_dict)."""


@dataclass(frozen=True)
class Creation:
    """The `borg create` that has made an archive: its words for the dry run, where it ran, and what it stores.

    `is_absolute`: the sources were given by absolute paths; all of them are of one kind. `prefix` is what borg takes
    off all of them (`PREFIX/./REST`).
    """

    dry_run: tuple[str, ...]
    cwd: str
    is_absolute: bool
    xattrs: bool
    lists: bool
    prefix: str = ""

    def path(self, stored: str) -> str:
        """Return where a path of the archive lay: borg takes off the slash of absolute ones."""
        if self.prefix:
            return os.path.normpath(f"{self.prefix}/{stored}")
        return f"/{stored}" if self.is_absolute else os.path.normpath(os.path.join(self.cwd, stored))

    def listed(self, path: str) -> str:
        """Return a path as the dry run names it: borg shows no bytes that are no text."""
        return re.sub("[\udc80-\udcff]", "?", path)


def prefix(roots: Sequence[str]) -> str | None:
    """Return what a borg that knows `PREFIX/./REST` takes off all sources; None if their names do not lead back then.

    The directory PREFIX itself is stored by some releases, and left out by others.
    """
    prefixes = set()
    for root in roots:
        before, slashdot, rest = root.partition(SLASHDOT)
        if slashdot and not (before and root.startswith("/") and os.path.normpath(rest) != "."):
            return None
        prefixes.add(os.path.normpath(before) if slashdot else "")
    return prefixes.pop() if len(prefixes) == 1 else None


def creation(
    invocation: Invocation, main: options.Parsed, create: options.Parsed, roots: Sequence[str], *, strips: bool
) -> Creation | None:
    """Return what a command line of `borg create` has made; None if its paths do not lead back to the sources.

    `strips`: this release knows `PREFIX/./REST`.
    """
    clear = roots and not any(".." in root.split("/") or root == "-" for root in roots)
    stripped = prefix(roots) if strips else ""
    if not clear or stripped is None or len({root.startswith("/") for root in roots}) != 1:
        return None
    words = [*invocation.argv[:1], *_kept(main), "create", "--dry-run", "--list", "--log-json", *_kept(create), "--"]
    stores = not create.has("--noxattrs"), not create.has("--noacls")
    return Creation((*words, *create.words), invocation.cwd, roots[0].startswith("/"), *stores, stripped)


def _kept(parsed: options.Parsed) -> Iterator[str]:
    for item in parsed.given():
        if item.name not in UNHELPFUL:
            yield item.name if item.value is None else f"{item.name}={item.value}"


class BorgArchive(Saved):
    """An archive of borg 1's."""

    def __init__(self, place: Repository, archive: str, creation: Creation, programs: Programs) -> None:
        self.name = f"{place.location}::{archive}"
        self.stores = Stores(mtimes=(0, LATEST), sockets=False)
        self._place, self._creation, self._programs = place, creation, programs

    def expected(self) -> Iterator[str]:
        """Yield what the dry run lists, but for what it excludes."""
        yield from self._planned(self._creation.dry_run)

    def _planned(self, dry_run: Sequence[str]) -> Iterator[str]:
        with self._programs.reading(dry_run, env=self._place.env, errors=True) as stream:
            for line in stream:
                if line.startswith(b'{"type": "file_status"'):
                    item = json.loads(line)
                    if item["status"] not in ("x", "E"):
                        yield os.path.normpath(os.path.join(self._creation.cwd, item["path"]))

    def entries(self) -> Iterator[Entry]:
        """Yield all items but parts of files, which each checkpoint leaves behind and borg itself hides."""
        with self._reading("debug", "dump-archive") as stream:
            for item in items(stream):
                if "part" not in item:
                    yield self._entry(item)

    def _entry(self, item: Mapping[str, Any]) -> Entry:
        path = self._creation.path(_text(item["path"]).rstrip("/"))
        kind = entry_type(item["mode"])
        source = _text(item["source"]) if "source" in item else None
        xattrs = {_text(name): _bytes(value) for name, value in (item.get("xattrs") or {}).items()}
        linked = self._creation.path(source) if kind != "link" and source is not None else None
        return Entry(
            path,
            kind,
            size=item["size"] if kind == "file" else None,
            mode=stat.S_IMODE(item["mode"]),
            uid=item["uid"],
            gid=item["gid"],
            mtime=item["mtime"],
            target=source if kind == "link" else None,
            linked=linked,
            device=item.get("rdev"),
            xattrs=xattrs if self._creation.xattrs else None,
            acl=acl.from_text(_text(item.get("acl_access") or "")) if self._creation.lists else None,
            default_acl=acl.from_text(_text(item.get("acl_default") or "")) if self._creation.lists else None,
            listed=self._creation.listed(path),
        )

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the contents that `export-tar` gives."""
        for words in self._patterns(selection):
            with self._reading("export-tar", words=words) as stream:
                for member in tar_stream.members(stream):
                    path = self._creation.path(member.info.name.rstrip("/"))
                    if member.info.isreg() and selection.wants(path):
                        yield path, member.pieces

    def _patterns(self, selection: Selection) -> Iterator[list[str]]:
        """Yield words for the paths that are wanted, as many as a command line takes."""
        if selection.everything:
            yield []
            return
        words: list[str] = []
        length = 0
        for style, path in (
            *(("pp", path) for path in selection.prefixes),
            *(("pf", path) for path in selection.paths),
        ):
            word = f"{style}:{self._stored(path)}"
            if words and length + len(os.fsencode(word)) > MOST_WORDS:
                yield words
                words, length = [], 0
            words.append(word)
            length += len(os.fsencode(word)) + 1
        if words:
            yield words

    def _stored(self, path: str) -> str:
        if self._creation.prefix:
            return os.path.relpath(path, self._creation.prefix)
        return path.lstrip("/") if self._creation.is_absolute else os.path.relpath(path, self._creation.cwd)

    def _reading(self, *command: str, words: Sequence[str] = ()) -> AbstractContextManager[BinaryIO]:
        argv = [*self._place.program, *command, *self._place.common, self.name, "-", *words]
        return tar_stream.judged(self._programs, argv, self._place.env, DAMAGE, WARNINGS)


def items(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yield the items in what `debug dump-archive` writes, one at a time; of its chunks an item keeps only the size.

    A file of 100 GB has a hundred thousand chunks.
    """
    lines = iter(stream)
    for line in lines:
        if line == b'    "_items": [\n':
            break
    for line in lines:
        if line == b"    {\n":
            yield _item(lines)


def _item(lines: Iterator[bytes]) -> dict[str, Any]:
    """Read an item on, whose first line has been read."""
    text, size = bytearray(b"{"), 0
    for line in lines:
        if line == b'        "chunks": [\n':
            size = _size(lines)
        else:
            text += line.rstrip(b",\n") if line.startswith(b"    }") else line
        if line.startswith(b"    }"):
            break
    item: dict[str, Any] = json.loads(text)
    return {"size": size, **item}


def _size(lines: Iterator[bytes]) -> int:
    """Read a list of chunks to its end, each its id, its size and how much room it takes; return the sum of sizes."""
    size = 0
    for line in lines:
        if line.startswith(b"        ]"):
            break
        if line == b"            [\n":
            next(lines)
            size += int(next(lines).strip(b" ,\n"))
    return size


def _text(value: str) -> str:
    return os.fsdecode(bytes.fromhex(value[1:])) if value.startswith(HEX) else value


def _bytes(value: str | None) -> bytes:
    if value is None:
        return b""
    return bytes.fromhex(value[1:]) if value.startswith(HEX) else value.encode()


def archives(
    place: Repository, creation: Creation, is_ours: IsOurs, programs: Programs, span: Span
) -> Sequence[BorgArchive]:
    """Return the archives of one repository that a run has made.

    Raises: ProgramError; LookupError where that is not certain.
    """
    saved = Borg(place, Tainted(span, "keep", programs.output)).archives(is_ours)
    if len(saved) > 1 and any(archive.doubtful for archive in saved):
        names = ", ".join(archive.name for archive in saved)
        raise LookupError(f"borg's archives {names} may all be this run's: {PUT_BACK}")
    return [BorgArchive(place, archive.name, creation, programs) for archive in saved]


def restored(
    place: Repository, creation: Creation, is_ours: IsOurs, programs: Programs, which: Span | str
) -> BorgArchive:
    """Return the archive of a name, or the one that a command of a span has made.

    Raises: ProgramError; LookupError when there is none, or more than one.
    """
    if isinstance(which, str):
        return BorgArchive(place, which, creation, programs)
    saved = archives(place, creation, is_ours, programs, which)
    if len(saved) != 1:
        raise LookupError(
            f"{place.location} has {len(saved) or 'no'} archives that this command line has made in that run: it may "
            "have been pruned, or have other words on its command line; name the archive (--archive NAME)"
        )
    return saved[0]
