"""Each thing that an archive may have wrong is told, and nothing that the program does not store."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from borg_lvm.plugins.read_back import Entry, Stores
from borg_lvm.proof import acl
from borg_lvm.proof.compare import FrozenEntry, differences

ACL = frozenset(("user::rw-", "user:1000:r--", "group::r--", "mask::r--", "other::---"))
ATTRIBUTES = {"user.a": b"1", "security.b": b"2"}
FROZEN = FrozenEntry("file", 6, 0o644, 0, 5, 1_700_000_000_000_000_007, xattrs=ATTRIBUTES, acl=ACL)
ENTRY = Entry(
    "/srv/f", "file", 6, 0o644, 0, 5, 1_700_000_000_000_000_007, xattrs=dict(ATTRIBUTES), acl=ACL,
    default_acl=frozenset(),
)  # fmt: skip


def told(entry: Entry, frozen: FrozenEntry = FROZEN, stores: Stores | None = None) -> list[str]:
    return list(differences(entry, frozen, stores or Stores()))


def test_what_is_the_same_is_not_told() -> None:
    assert told(ENTRY) == []
    assert told(Entry("/srv/f", "file")) == [], "an archive that says nothing is not wrong"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "directory"}, "type: the archive has directory, the frozen view file"),
        ({"size": 5}, "size: the archive has 5 bytes, the frozen view 6 bytes"),
        ({"mode": 0o600}, "mode: the archive has 0600, the frozen view 0644"),
        ({"mode": 0}, "mode: the archive has 0000, the frozen view 0644"),
        ({"uid": 1}, "owner: the archive has 1, the frozen view 0"),
        ({"gid": 0}, "group: the archive has 0, the frozen view 5"),
        ({"mtime": 1_700_000_000_000_000_006}, "modification time: the archive has 2023-11-14 22:13:20.000000006, the"),
        ({"mtime": 1 << 70}, "modification time: the archive has 1180591620717.411303424, the frozen view 2023"),
        ({"xattrs": {"user.a": b"1"}}, "extended attribute security.b: the archive has none, the frozen view '2'"),
        ({"xattrs": {**ATTRIBUTES, "user.a": b"\x1b"}}, "extended attribute user.a: the archive has '\\x1b', the"),
        ({"acl": frozenset()}, "access control list: the archive has no such entry, the frozen view group::r-- mask:"),
        ({"default_acl": ACL}, "default access control list: the archive has group::r-- mask::r-- other::--- user:10"),
    ],
)
def test_each_difference_is_told(change: dict[str, Any], words: str) -> None:
    (line,) = told(replace(ENTRY, **change))
    assert line.startswith(words)


def test_a_list_that_says_what_the_mode_says_is_none() -> None:
    plain = frozenset(("user::rw-", "group::r--", "other::r--"))
    assert told(replace(ENTRY, acl=plain), replace(FROZEN, acl=frozenset())) == []
    assert told(replace(ENTRY, default_acl=plain)) != []


def test_links_and_devices_are_compared_by_what_they_are() -> None:
    link = Entry("/l", "link", target="a", mode=0o700)
    frozen = FrozenEntry("link", 1, 0o777, 0, 0, 0, target="b")
    assert told(link, frozen) == ["link target: the archive has 'a', the frozen view 'b'"]
    device = FrozenEntry("character device", 0, 0o644, 0, 0, 0, device=3)
    assert told(Entry("/d", "character device", device=4), device) == [
        "device number: the archive has 4, the frozen view 3"
    ]


def test_what_a_program_cannot_store_is_not_compared() -> None:
    coarse = replace(ENTRY, mtime=1_700_000_000_000_000_000, xattrs={"user.a": b"1"})
    assert told(coarse, stores=Stores(mtime_step=10**9, xattrs=("user.",))) == []
    assert len(told(coarse)) == 2


def test_an_access_control_list_is_the_same_in_both_forms() -> None:
    entries = [(1, 6, 0xFFFFFFFF), (2, 4, 1000), (4, 4, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)
    assert acl.from_xattr(packed) == ACL
    assert acl.to_xattr(ACL) == packed
    assert acl.from_text("user::rw-\nuser:joe:r--:1000\ngroup::r--\nmask::r--\nother::---") == ACL
    assert acl.from_text("user::rw-,user:1000:r--,group::r--,mask::r--,other::---\n") == ACL
    borgs = "user::rw-\nuser:joe:r--\t#effective:1000\ngroup::r--\nmask::r--\nother::---"
    assert acl.from_text(borgs) == ACL
    with pytest.raises(ValueError, match="unknown form"):
        acl.from_xattr(b"\1\0\0\0")


def test_a_time_that_the_program_cannot_store_is_what_it_stores_instead() -> None:
    stores = Stores(mtimes=(0, 10**18))
    assert told(replace(ENTRY, mtime=0), replace(FROZEN, mtime=-5), stores) == []
    assert told(replace(ENTRY, mtime=10**18), replace(FROZEN, mtime=10**19), stores) == []
    assert told(replace(ENTRY, mtime=1), replace(FROZEN, mtime=-5), stores) != []
    assert told(replace(ENTRY, mtime=0), replace(FROZEN, mtime=-5)) != []


@pytest.mark.parametrize("line", ["user:joe:r--", "owner@::r--"])
def test_what_has_no_number_has_no_form_of_the_kernels(line: str) -> None:
    with pytest.raises((ValueError, LookupError)):
        acl.to_xattr(frozenset([line]))


def test_what_xfs_shows_twice_is_compared_once() -> None:
    shown_twice = {**ATTRIBUTES, "trusted.SGI_ACL_FILE": b"3", "trusted.SGI_ACL_DEFAULT": b"4"}
    assert told(replace(ENTRY, xattrs=shown_twice)) == []
    assert told(ENTRY, replace(FROZEN, xattrs=shown_twice)) == []


def test_more_attributes_than_can_be_listed_are_a_difference_where_any_are_stored() -> None:
    frozen = replace(FROZEN, xattrs=None)
    assert told(ENTRY, frozen) == ["extended attributes: the archive has 2, the frozen view more than can be listed"]
    assert told(replace(ENTRY, xattrs=None), frozen) == []


def test_a_time_of_which_the_program_stores_another_one_is_not_compared() -> None:
    stores = Stores(mtimes=(0, 10**18), clamps=False)
    assert told(replace(ENTRY, mtime=5), replace(FROZEN, mtime=10**19), stores) == []
    assert told(replace(ENTRY, mtime=5), replace(FROZEN, mtime=10**17), stores) != []
