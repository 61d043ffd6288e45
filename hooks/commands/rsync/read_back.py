"""Reads back what rsync has copied to a directory of this machine.

What had to be there is what the same command line lists for a destination that does not exist (`--dry-run`). What else
is in the destination is of earlier runs, and none of this one's.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from borg_lvm.plugin_api import Entry, Invocation, Programs, ReadBack, Saved, Selection, Span, Stores, acl, entry_type
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
}
UNHELPFUL = frozenset(
    """--verbose --info --debug --quiet --stats --progress --itemize-changes --out-format --log-format --log-file
    --log-file-format --link-dest --copy-dest --backup --backup-dir --partial-dir --temp-dir --partial -P
    --delay-updates --stop-after --stop-at --8-bit-output --mkpath --max-delete --force --human-readable --dry-run
    --inplace --append --append-verify --update""".split()
)
"""Options that change what is said, or how the destination is written, not what is copied; and all of `--delete`."""
MARK = "borg-lvm:"
NOWHERE = ".borg-lvm-nowhere"
"""A name in the destination that does not exist."""
PIECE = 1 << 20


@dataclass(frozen=True)
class Copying:
    """A command line of rsync's: its dry run, where its names lead, and what it preserves."""

    target: str
    dry_run: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    kept: frozenset[str]

    def path(self, name: str) -> str:
        """Return where a name in the destination came from. Raises: LookupError for one of no source."""
        for prefix, place in self.places:
            if not prefix or name == prefix or name.startswith(f"{prefix}/"):
                return os.path.normpath(f"{place.rstrip('/')}/{name[len(prefix) :].lstrip('/')}")
        raise LookupError(f"rsync names {name!r}, which lies below no source")


def answer(invocation: Invocation, parsed: options.Parsed, given: Sequence[str], destination: str) -> ReadBack:
    """Say how what a command line copies is read back; `destination` is on this machine."""
    places = _places(invocation, parsed, given)
    why = next((f"{why} (rsync's option {name})" for name, why in CANNOT.items() if parsed.has(name)), "")
    if not why and (places is None or not (destination.endswith("/") or _is_folder(invocation, given, destination))):
        why = "the names in the destination do not lead back to one source each, or the destination is no directory"
    if why or places is None:
        return ReadBack(why)
    target = invocation.absolute(destination).rstrip("/") or "/"
    words = (*_kept_words(parsed), "--", *given, f"{target}/{NOWHERE}/")
    said = (invocation.argv[0], "--dry-run", f"--out-format={MARK}%n", *words)
    copying = Copying(target, said, places, frozenset(_preserved(parsed)))

    def archives(programs: Programs, span: Span) -> Sequence[Saved]:
        return [Copy(copying, programs)]

    return ReadBack("", archives, HOW)


def _is_folder(invocation: Invocation, given: Sequence[str], destination: str) -> bool:
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
    if len({prefix for prefix, _ in pairs}) != len(pairs) or (len(pairs) > 1 and any(not one for one, _ in pairs)):
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
    if parsed.has("--omit-dir-times"):
        yield "omit-dir-times"
    if parsed.has("--omit-link-times"):
        yield "omit-link-times"


def _maps(parsed: options.Parsed, field: str) -> bool:
    return field in ("uid", "gid") and parsed.has("--usermap", "--groupmap", "--chown", "--copy-as")


class Copy(Saved):
    """What one command line has copied."""

    def __init__(self, copying: Copying, programs: Programs) -> None:
        self.name = copying.target
        self.stores = Stores(hard_links="linked" in copying.kept)
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

    def entries(self) -> Iterator[Entry]:
        """Yield what is in the destination, of what is expected there."""
        for name in self._names():
            found = self._entry(os.path.join(self._copying.target, name), self._copying.path(name))
            if found:
                yield found

    def _entry(self, place: str, path: str) -> Entry | None:
        try:
            info = os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            return None
        kind, kept = entry_type(info.st_mode), self._copying.kept
        omitted = f"omit-{ {'directory': 'dir', 'link': 'link'}.get(kind, 'no') }-times" in kept
        attributes = {name: os.getxattr(place, name, follow_symlinks=False) for name in _attributes(place)}
        lists = [attributes.pop(f"system.posix_acl_{name}", None) for name in ("access", "default")]
        known = [acl.from_xattr(one) if one else frozenset[str]() for one in lists]
        return Entry(
            path,
            kind,
            size=info.st_size if kind == "file" else None,
            mode=stat.S_IMODE(info.st_mode) if "mode" in kept else None,
            uid=info.st_uid if "uid" in kept else None,
            gid=info.st_gid if "gid" in kept else None,
            mtime=info.st_mtime_ns if "mtime" in kept and not omitted else None,
            target=os.readlink(place) if kind == "link" else None,
            inode=(info.st_dev, info.st_ino),
            device=info.st_rdev if kind.endswith("device") else None,
            xattrs=attributes if "xattrs" in kept else None,
            acl=known[0] if "acl" in kept and kind != "link" else None,
            default_acl=known[1] if "acl" in kept and kind != "link" else None,
        )

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the contents of the files in the destination."""
        for name in self._names():
            path, place = self._copying.path(name), os.path.join(self._copying.target, name)
            if selection.wants(path) and os.path.isfile(place) and not os.path.islink(place):
                yield path, _pieces(place)


def _byte(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8) & 0xFF])


def _attributes(place: str) -> Sequence[str]:
    try:
        return os.listxattr(place, follow_symlinks=False)
    except OSError:  # the file system has none
        return ()


def _pieces(place: str) -> Iterator[bytes]:
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # from the disk, as far as it is written there
        while piece := os.read(fd, PIECE):
            yield piece
    finally:
        os.close(fd)
