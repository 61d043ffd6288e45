"""Access control lists in the kernel's form and in text, as one that can be compared. Pure.

Source: include/uapi/linux/posix_acl_xattr.h; acl_to_text(3).
"""

from __future__ import annotations

import struct

from borg_lvm.plugins.read_back import Acl

VERSION = 2
TAGS = {0x01: "user", 0x02: "user", 0x04: "group", 0x08: "group", 0x10: "mask", 0x20: "other"}
WITH_ID = (0x02, 0x08)
NO_ID = 0xFFFFFFFF
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
"""The attributes that have them."""


def from_xattr(value: bytes) -> Acl:
    """Read `system.posix_acl_access` or `…_default`. Raises: ValueError when it is of another form."""
    if len(value) < 4 or (len(value) - 4) % 8 or struct.unpack_from("<I", value)[0] != VERSION:
        raise ValueError("an access control list of an unknown form")
    entries = []
    for tag, permissions, number in struct.iter_unpack("<HHI", value[4:]):
        who = str(number) if tag in WITH_ID else ""
        bits = "".join(letter if permissions & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
        entries.append(f"{TAGS.get(tag, hex(tag))}:{who}:{bits}")
    return frozenset(entries)


def to_xattr(entries: Acl) -> bytes:
    """Return a list in the kernel's form. Raises: ValueError, LookupError for what has none: a name, an unknown tag."""
    tags = {(name, tag in WITH_ID): tag for tag, name in TAGS.items()}
    rows = []
    for line in entries:
        name, who, bits = line.split(":")
        permissions = sum(bit for letter, bit in zip(bits, (4, 2, 1), strict=True) if letter != "-")
        rows.append((tags[name, bool(who)], int(who) if who else NO_ID, permissions))
    packed = (struct.pack("<HHI", tag, permissions, number) for tag, number, permissions in sorted(rows))
    return struct.pack("<I", VERSION) + b"".join(packed)


def from_text(text: str) -> Acl:
    """Read a text of one entry a line, or parted by commas; a fourth field is the number of a name in the second.

    That is how borg writes them down, since names may be of another machine; behind the permissions there may be a
    comment (`#effective:r--`) of acl_to_text(3).
    """
    entries = []
    for line in filter(None, (part.strip() for part in text.replace(",", "\n").split("\n"))):
        fields = [field.partition("#")[0].strip() for field in line.split(":")]
        tag, who, bits = [*fields, "", ""][:3]
        number = fields[-1] if len(fields) > 3 and fields[-1].isdigit() else who
        entries.append(f"{tag}:{number}:{bits}")
    return frozenset(entries)


def beside_mode(entries: Acl) -> Acl:
    """Return an access list if it says more than the mode does, else an empty one (acl_equiv_mode(3))."""
    return entries if any(not line.startswith(("user::", "group::", "other::")) for line in entries) else frozenset()
