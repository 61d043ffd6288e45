"""What restic prints of the nodes of a snapshot: the lines of `ls --json`, and the trees that `cat blob` prints.

Sources: restic 0.14.0 to 0.18 (cmd/restic/cmd_ls.go, internal/restic/node.go), Go's io/fs (FileMode) and strconv.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from borg_lvm.plugin_api import Entry, EntryType, acl

TYPES: Mapping[str, EntryType] = {
    "file": "file",
    "dir": "directory",
    "symlink": "link",
    "fifo": "fifo",
    "chardev": "character device",
    "dev": "block device",
}
SPECIAL = ((1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000))
"""Set-user-id, set-group-id and sticky: Go's bits of a mode, and the kernel's."""
ACLS = "system.posix_acl_access", "system.posix_acl_default"
GARBLED = "\N{REPLACEMENT CHARACTER}"
"""What Go's JSON has in the place of each byte that is no text."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEARS = (-62_167_219_200 + 86_400) * 10**9, (253_402_300_800 - 86_400) * 10**9
"""The years 0 to 9999 (ns since 1970), but for a day, by whatever clock: another year is stored as one of these two."""
CYCLE = 400, 146_097 * 86_400
"""After so many years, which are so many seconds, the calendar begins again."""
ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def garbled(path: str) -> str:
    """Return a path as Go's JSON has it."""
    return re.sub("[\udc80-\udcff]", GARBLED, path)


def unquoted(text: str) -> str:
    """Undo Go's `strconv.Quote`, of a text without its quotation marks."""
    return os.fsdecode(
        re.sub(rb'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([abfnrtv"\'\\]))', _character, os.fsencode(text))
    )


def _character(match: re.Match[bytes]) -> bytes:
    byte, short, long, letter = match.groups()
    if byte:
        return bytes([int(byte, 16)])
    if short or long:
        return chr(int(short or long, 16)).encode()
    return ESCAPES.get(letter, letter)


def moment(text: str) -> int:
    """Return one of restic's times (RFC 3339) in ns since 1970. Raises: ValueError."""
    match = re.fullmatch(r"(\S+T[0-9:]+)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    if not match:
        raise ValueError(f"restic names a time {text!r}")
    whole, rest, zone = match.groups()
    years, length = CYCLE if whole.startswith("0000-") else (0, 0)  # a year that Python does not know
    whole = f"{years:04}{whole[4:]}" if years else whole
    seconds = (datetime.fromisoformat(whole + zone.replace("Z", "+00:00")) - EPOCH) // timedelta(seconds=1) - length
    return seconds * 10**9 + int((rest or "")[:9].ljust(9, "0"))


def listed(node: Mapping[str, Any], path: str) -> Entry:
    """Return a line of `ls --json` as what it says of `path`. Raises: LookupError for a type that is not known."""
    kind = TYPES[node["type"]]
    mode = node.get("mode", 0)
    inode = node.get("inode")  # since restic 0.16
    return Entry(
        path,
        kind,
        size=node.get("size", 0) if kind == "file" else None,
        mode=(mode & 0o777) | sum(ours for theirs, ours in SPECIAL if mode & theirs),
        uid=node["uid"],
        gid=node["gid"],
        mtime=moment(node["mtime"]),
        inode=(0, inode) if inode else None,
        listed=garbled(path),
    )


def detailed(node: Mapping[str, Any], path: str) -> Entry:
    """Return a node of a tree as what `ls --json` does not say of `path`. Raises: LookupError as `listed`.

    Nothing is said of the extended attributes of symbolic links, which not every release stores.
    """
    kind = TYPES[node["type"]]
    attributes = {
        attribute["name"]: base64.b64decode(attribute["value"] or "")
        for attribute in node.get("extended_attributes") or ()
    }
    lists = [acl.from_xattr(attributes.pop(name)) if name in attributes else frozenset[str]() for name in ACLS]
    known = kind != "link"
    return Entry(
        path,
        kind,
        target=target(node) if kind == "link" else None,
        inode=(0, node["inode"]) if node.get("inode") else None,
        device=node.get("device", 0) if kind.endswith("device") else None,
        xattrs=attributes if known else None,
        acl=lists[0] if known else None,
        default_acl=lists[1] if known else None,
    )


def target(node: Mapping[str, Any]) -> str | None:
    """Return where a symbolic link leads; None if restic has not stored that as it is (before 0.16)."""
    if raw := node.get("linktarget_raw"):
        return os.fsdecode(base64.b64decode(raw))
    target: str = node.get("linktarget", "")
    return None if GARBLED in target else target


def name(node: Mapping[str, Any]) -> str:
    """Return the name of a node in a tree."""
    return unquoted(node["name"])
