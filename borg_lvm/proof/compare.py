"""An entry of an archive, and its content, against what the frozen view has at its path. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from borg_lvm.plugins.read_back import Acl, Entry, EntryType, Stores
from borg_lvm.proof import acl
from borg_lvm.records import dataclass, field
from borg_lvm.reporting.terminal import shown

SHORTEST = 60
"""Letters of a value that a difference shows."""
SHOWN_TWICE = frozenset(("trusted.SGI_ACL_FILE", "trusted.SGI_ACL_DEFAULT"))
"""By these names xfs shows root the access control lists once more (fs/xfs/xfs_xattr.c); other file systems do not."""


@dataclass(frozen=True)
class FrozenEntry:
    """What the frozen view has at a path: the fields as those of `Entry`, and how many names the file has.

    `xattrs` is None where there are more than any program can list.
    """

    type: EntryType
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    names: int = 1
    device: int = 0
    target: str = ""
    xattrs: Mapping[str, bytes] | None = field(default_factory=dict)
    acl: Acl = frozenset()
    default_acl: Acl = frozenset()


def differences(entry: Entry, frozen: FrozenEntry, stores: Stores) -> Iterator[str]:
    """Yield what differs, each as `WHAT: the archive has X, the frozen view Y`."""
    if entry.type != frozen.type and entry.linked is None:  # tar says of a hard link only what it is a link of
        yield _differs("type", entry.type, frozen.type)
        return
    if entry.type == "file" and entry.linked is None and entry.size not in (None, frozen.size):
        yield _differs("size", f"{entry.size} bytes", f"{frozen.size} bytes")
    if entry.type == "link" and entry.target not in (None, frozen.target):
        yield _differs("link target", repr(entry.target), repr(frozen.target))
    if entry.type.endswith("device") and entry.device not in (None, frozen.device):
        yield _differs("device number", str(entry.device), str(frozen.device))
    if entry.type != "link" and entry.mode not in (None, frozen.mode):
        yield _differs("mode", f"{entry.mode or 0:04o}", f"{frozen.mode:04o}")
    for what, mine, theirs in (("owner", entry.uid, frozen.uid), ("group", entry.gid, frozen.gid)):
        if mine not in (None, theirs):
            yield _differs(what, str(mine), str(theirs))
    earliest, latest = stores.mtimes
    mtime = min(max(frozen.mtime, earliest), latest)
    is_kept = stores.clamps or mtime == frozen.mtime
    if entry.mtime is not None and is_kept and abs(entry.mtime - mtime) >= stores.mtime_step:
        yield _differs("modification time", _moment(entry.mtime), _moment(frozen.mtime))
    yield from _attributes(entry, frozen, stores)


def _attributes(entry: Entry, frozen: FrozenEntry, stores: Stores) -> Iterator[str]:
    if entry.xattrs is not None and frozen.xattrs is None:
        yield _differs("extended attributes", f"{len(entry.xattrs)}", "more than can be listed")
    elif entry.xattrs is not None and frozen.xattrs is not None:
        there = {name: value for name, value in frozen.xattrs.items() if name.startswith(stores.xattrs)}
        for name in sorted({*entry.xattrs, *there} - SHOWN_TWICE):
            if entry.xattrs.get(name) != there.get(name):
                yield _differs(f"extended attribute {name}", _value(entry.xattrs.get(name)), _value(there.get(name)))
    access, known = (None if entries is None else acl.beside_mode(entries) for entries in (entry.acl, frozen.acl))
    for what, mine, theirs in (
        ("access control list", access, known or frozenset()),
        ("default access control list", entry.default_acl, frozen.default_acl),
    ):
        if mine is not None and mine != theirs:
            yield _differs(what, _list(mine - theirs), _list(theirs - mine))


def _differs(what: str, mine: str, theirs: str) -> str:
    return shown(f"{what}: the archive has {_short(mine)}, the frozen view {_short(theirs)}")


def _short(text: str) -> str:
    return text if len(text) <= SHORTEST else f"{text[:SHORTEST]}…"


def _value(value: bytes | None) -> str:
    return "none" if value is None else repr(value)[1:]


def _list(entries: Acl) -> str:
    return " ".join(sorted(entries)) or "no such entry"


def _moment(ns: int) -> str:
    seconds, rest = divmod(ns, 10**9)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d}"
    except (ValueError, OverflowError):  # a year that Python does not know
        return f"{seconds}.{rest:09d}"


def first_difference(mine: Iterator[bytes], theirs: Iterator[bytes], count: Callable[[int], None]) -> int | None:
    """Return the first byte in which two streams differ, None if none does."""
    at, left = 0, b""
    for piece in mine:
        count(len(piece))
        begin = 0
        while begin < len(piece):
            left = left or next(theirs, b"")
            size = min(len(piece) - begin, len(left))
            # Bytes are compared by memcmp, memoryviews one by one: 34 times as long.
            one, other = piece[begin : begin + size], left[:size]
            if not size or one != other:
                return at + _common(one, other)
            at, begin, left = at + size, begin + size, left[size:]
    return at if left or next(theirs, b"") else None


def _common(mine: bytes, theirs: bytes) -> int:
    """Return how many bytes two pieces have in common at their beginning."""
    pairs = zip(mine, theirs, strict=True)
    return next((number for number, (ours, other) in enumerate(pairs) if ours != other), len(mine))
