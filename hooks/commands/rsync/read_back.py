"""Reads back what rsync has copied to a directory of this machine.

What had to be there is what the same command line lists for a destination that does not exist (`--dry-run`). What else
is in the destination is of earlier runs, and none of this one's.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

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
    acl,
    entry_type,
    opening,
)
from borg_lvm_hooks.commands.parsers import options

DRY_RUN = "rsync --dry-run"
HOW = dict.fromkeys(("list", "sample", "all"), f"{DRY_RUN} and reading the destination")
CANNOT = {
    "--compare-dest": "what is as it was in another directory is not in the destination",
    "--fake-super": "owners and modes are kept in attributes",
    "--iconv": "names are stored in another character set",
    "--existing": "files that are not in the destination are left out",
    "--ignore-existing": "files that are in the destination are left as they are",
    "--only-write-batch": "nothing is copied",
    "--write-batch": "a batch is written as well",
    "--crtimes": "it is not known which rsync lists what it copies",
    "--copy-devices": "a file in the destination has the content of a device",
    "--no-super": "owners and devices are not kept",
}
UNHELPFUL = frozenset(
    """--verbose --info --debug --quiet --stats --progress --itemize-changes --out-format --log-format --log-file
    --log-file-format --link-dest --copy-dest --backup --backup-dir --partial-dir --temp-dir --partial -P
    --delay-updates --stop-after --stop-at --8-bit-output --mkpath --max-delete --force --human-readable --dry-run
    --inplace --append --append-verify --update""".split()
)
"""Options that change what is said, or how the destination is written, not what is copied; and all of `--delete`."""
ALL = frozenset(("mode", "mtime", "gid", "uid", "acl", "xattrs", "linked"))
"""All that is kept of a file."""
MARK = "borg-lvm:"
NOWHERE = ".borg-lvm-nowhere"
"""A name in the destination that does not exist."""
SYSTEM = "system."
"""Attributes of this kind are a file system's own, and rsync copies none (xattrs.c)."""
PIECE = 1 << 20


@dataclass(frozen=True)
class Copying:
    """A command line of rsync's: its dry run, where its names lead, and what it preserves."""

    target: str
    dry_run: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    kept: frozenset[str]
    mtime_step: int
    """Times that differ by less, in ns, are left as they are where a file is there already."""

    def path(self, name: str) -> str:
        """Return where a name in the destination came from. Raises: LookupError for one of no source."""
        for prefix, place in self.places:
            if not prefix or name == prefix or name.startswith(f"{prefix}/"):
                return os.path.normpath(f"{place.rstrip('/')}/{name[len(prefix) :].lstrip('/')}")
        raise LookupError(f"rsync names {name!r}, which lies below no source")


def answer(
    invocation: Invocation, parsed: options.Parsed, given: Sequence[str], destination: str, target: str
) -> ReadBack:
    """Say how what a command line copies is read back; `target` is its destination's path on this machine."""
    places = _places(invocation, parsed, given)
    why = next((f"{why} (rsync's option {name})" for name, why in CANNOT.items() if parsed.has(name)), "")
    if not why and (places is None or not (destination.endswith("/") or _is_directory(invocation, given, destination))):
        why = "the names in the destination do not lead back to one source each, or the destination is no directory"
    if why or places is None:
        return ReadBack(why)
    words = (*_kept_words(parsed), "--", *given, f"{target}/{NOWHERE}/")
    said = (invocation.argv[0], "--dry-run", f"--out-format={MARK}%n", *words)
    copying = Copying(target, said, places, frozenset(_preserved(parsed)), _mtime_step(parsed))

    def archives(programs: Programs, span: Span) -> Sequence[Saved]:
        return [Copy(copying, programs)]

    def restored(programs: Programs, which: Span | str) -> Saved:
        place = invocation.absolute(which) if isinstance(which, str) else target
        if not os.path.isdir(place):
            raise LookupError(
                f"there is no directory {place}; name the one that it was copied to (--archive DIRECTORY)"
            )
        copy = WholeCopy(replace(copying, target=place, kept=ALL), programs)
        if not isinstance(which, str):
            copy.refuse_changed_after(which.end)
        return copy

    return ReadBack("", archives, HOW, restored, target)


def _is_directory(invocation: Invocation, given: Sequence[str], destination: str) -> bool:
    return len(given) > 1 or os.path.isdir(invocation.absolute(given[0])) or os.path.isdir(destination)


def _places(invocation: Invocation, parsed: options.Parsed, given: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    """Return what names in the destination begin with, and where these lead; None if that is not clear."""
    if any(".." in word.split("/") or "/./" in word for word in given):
        return None
    if parsed.has("--files-from") and not parsed.has("--no-relative"):
        return (("", invocation.absolute(given[0])),)
    if parsed.has("--relative") and not parsed.has("--no-relative"):
        return (("", "/"),) if all(word.startswith("/") for word in given) else None
    pairs = [
        ("" if word.endswith(("/", "/.")) else os.path.basename(word), invocation.absolute(word)) for word in given
    ]
    prefixes = {prefix for prefix, _ in pairs}
    if len(prefixes) != len(pairs) or (len(pairs) > 1 and "" in prefixes):
        return None
    return tuple(pairs)


def _kept_words(parsed: options.Parsed) -> Iterator[str]:
    for item in parsed.given():
        if item.name in UNHELPFUL or item.name.startswith("--del"):
            continue
        if item.value is None or item.name.startswith("--"):
            yield item.name if item.value is None else f"{item.name}={item.value}"
        else:
            yield f"{item.name}{item.value}"


def _preserved(parsed: options.Parsed) -> Iterator[str]:
    """Yield what rsync keeps of a file: of an option and its opposite the last one counts, and `-a` is six options."""
    of_archive = {"--perms": "mode", "--times": "mtime", "--group": "gid", "--owner": "uid"}
    for name, field in {**of_archive, "--acls": "acl", "--xattrs": "xattrs", "--hard-links": "linked"}.items():
        on = False
        for item in parsed.given():
            if item.name == name or (item.name == "--archive" and name in of_archive):
                on = True
            elif item.name == f"--no-{name.removeprefix('--')}":
                on = False
        if on and not (field == "mode" and parsed.has("--chmod")) and not _maps(parsed, field):
            yield field
    # Backups beside the files change their directories: rsync leaves the times of these then (options.c).
    if parsed.has("--omit-dir-times") or (parsed.has("--backup") and not parsed.has("--backup-dir")):
        yield "omit-dir-times"
    if parsed.has("--omit-link-times"):
        yield "omit-link-times"


def _mtime_step(parsed: options.Parsed) -> int:
    """Return how exact times are, in ns.

    rsync sets the time of a directory or link that it has just made only if that differs from the time of making it,
    and compares whole seconds unless options say otherwise (`same_time()` in its util1.c).
    """
    try:
        window = int(parsed.last("--modify-window") or "0", 0)
    except ValueError:  # rsync will refuse it
        window = 0
    return 1 if window < 0 else (window + 1) * 10**9


def _maps(parsed: options.Parsed, field: str) -> bool:
    return field in ("uid", "gid") and parsed.has("--usermap", "--groupmap", "--chown", "--copy-as")


class Copy(Saved):
    """What one command line has copied."""

    def __init__(self, copying: Copying, programs: Programs) -> None:
        self.name = copying.target
        # rsync(1), --hard-links: links that are in the destination already are not broken.
        self.stores = Stores(copying.mtime_step, hard_links="linked" in copying.kept, links_stay=True)
        self._copying, self._programs = copying, programs

    def _names(self) -> Iterator[str]:
        with self._programs.reading(self._copying.dry_run, env={"LC_ALL": "C"}) as stream:
            for line in stream:
                text = os.fsdecode(line.rstrip(b"\n"))
                if text.startswith(MARK):
                    name = re.sub(rb"\\#([0-7]{3})", _byte, os.fsencode(text.removeprefix(MARK)))
                    yield os.path.normpath(os.fsdecode(name)).removeprefix(".").lstrip("/")

    def expected(self) -> Iterator[str]:
        """Yield what rsync would copy now."""
        yield from map(self._copying.path, self._names())

    @contextmanager
    def _below(self) -> Iterator[opening.Below]:
        """Have the destination: with owners and modes of the sources in it, it is theirs. Raises: DamagedError."""
        try:
            tree = opening.Below(self._copying.target)
        except OSError as error:
            raise DamagedError(f"the destination cannot be opened: {error.strerror}") from error
        with closing(tree):
            yield tree

    def entries(self) -> Iterator[Entry]:
        """Yield what is in the destination, of what is expected there."""
        with self._below() as tree:
            for name in self._names():
                with tree.opened(name) as handle:
                    entry = None if handle is None else self._entry(handle, self._copying.path(name))
                if entry:
                    yield entry

    def _entry(self, handle: int, path: str) -> Entry:
        info = os.fstat(handle)
        kind, kept = entry_type(info.st_mode), self._copying.kept
        omitted = f"omit-{ {'directory': 'dir', 'link': 'link'}.get(kind, 'no') }-times" in kept
        attributes = opening.attributes(handle)
        lists = [attributes.pop(f"system.posix_acl_{name}", None) for name in ("access", "default")]
        attributes = {name: value for name, value in attributes.items() if not name.startswith(SYSTEM)}
        known = [acl.from_xattr(packed) if packed else frozenset[str]() for packed in lists]
        return Entry(
            path,
            kind,
            size=info.st_size if kind == "file" else None,
            mode=stat.S_IMODE(info.st_mode) if "mode" in kept else None,
            uid=info.st_uid if "uid" in kept else None,
            gid=info.st_gid if "gid" in kept else None,
            mtime=info.st_mtime_ns if "mtime" in kept and not omitted else None,
            target=opening.target(handle) if kind == "link" else None,
            inode=(info.st_dev, info.st_ino),
            device=info.st_rdev if kind.endswith("device") else None,
            xattrs=attributes if "xattrs" in kept else None,
            acl=known[0] if "acl" in kept and kind != "link" else None,
            default_acl=known[1] if "acl" in kept and kind != "link" else None,
        )

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the contents of the files in the destination."""
        with self._below() as tree:
            for name in self._names():
                path = self._copying.path(name)
                if selection.wants(path) and (file := tree.plain(name)):
                    with file:
                        yield path, _pieces(file.fileno())


class WholeCopy(Copy):
    """All that is in the destination, as it is there: what has copied it is over, and its sources may be gone."""

    def _names(self) -> Iterator[str]:
        with self._below() as tree:
            yield from filter(self._is_of_a_source, tree.names())

    def _is_of_a_source(self, name: str) -> bool:
        try:
            return bool(self._copying.path(name))
        except LookupError:
            return False

    def refuse_changed_after(self, end: float) -> None:
        """Raise LookupError if anything was changed since a moment (Unix time): then it is not the copy of then."""
        with self._below() as tree:
            for name in self._names():
                with tree.opened(name) as handle:
                    changed = os.fstat(handle).st_ctime if handle is not None else 0.0
                if changed > end:
                    raise LookupError(
                        f"{os.path.join(self._copying.target, name)} was changed after that run, at {_time(changed)}; "
                        f"if it is to be restored as it is now, name the directory (--archive {self._copying.target})"
                    )


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(" ", "seconds")


def _byte(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 8) & 0xFF])


def _pieces(fd: int) -> Iterator[bytes]:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # from the disk, as far as it is written there
    while piece := os.read(fd, PIECE):
        yield piece
