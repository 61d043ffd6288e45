"""Can a volume have a snapshot now: what LVM reports of it, its pool and its group decides."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import pytest

from borg_lvm.check.group_findings import judge
from borg_lvm.config import Size
from borg_lvm.errors import BusyError, SnapshotError
from borg_lvm.machine import ext_superblock, lvm, lvm_groups
from borg_lvm.machine.lvm import Volume
from borg_lvm.machine.lvm_groups import Disk, Group
from borg_lvm.machine.mounts import Mount
from borg_lvm.planning import file_systems
from borg_lvm.planning.snapshot_size import allot
from borg_lvm.planning.snapshotable import crowded, group_refusal, pool_refusal, unlisted, volume_refusal
from borg_lvm.snapshots.lvm import create, hold, shell
from tests.unit.data.machine import MIB, VOLUME, pool, thin

GROUP = Group("vg0")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ""),
        ({"missing": ("a", "b")}, "misses the physical volume a (and 1 more)"),
        ({"duplicates": ("/dev/sdb",)}, "sees a second time, as /dev/sdb"),
        ({"namesake": "other-id"}, "vgrename other-id NAME"),
        ({"exported": True}, "vgimport vg0"),
        ({"foreign": True, "system_id": "other"}, "belongs to the host 'other'"),
        ({"system_id": "ours"}, ""),
        ({"writable": False}, "is read-only"),
        ({"reserved": 5, "most": 9, "volumes": 2, "lock_type": "sanlock"}, ""),
    ],
)
def test_plan_and_check_say_the_same_of_a_group(facts: dict[str, Any], words: str) -> None:
    group = replace(GROUP, **facts)
    reason = group_refusal(group)
    assert words in reason if words else not reason
    assert volume_refusal(VOLUME, group, None) == (f"is in the volume group vg0, which {reason}" if words else "")
    (finding,) = judge([VOLUME], {VOLUME.vg_uuid: group}, None)
    assert finding.level == ("warning" if words else "ok")
    assert not words or reason == f"{finding.message.removeprefix('it ')}; {finding.remedy}"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"attr": "-wI-ao----"}, "pvmove --abort"),
        ({"attr": "rwi-aor---", "layout": frozenset(["raid", "raid1"]), "modules": frozenset(["raid"])}, ""),
        (
            {"layout": frozenset(["raid", "raid1"]), "modules": frozenset(["raid", "integrity"])},
            "lvconvert --raidintegrity n vg0/home",
        ),
        (
            {"attr": "vwi-aov---", "layout": frozenset(["vdo", "sparse"]), "modules": frozenset(["kvdo"])},
            "is stored by VDO",
        ),
    ],
)
def test_a_volume_that_lvm_would_not_touch(facts: dict[str, Any], words: str) -> None:
    reason = volume_refusal(replace(VOLUME, **facts), GROUP, None)
    assert words in reason if words else not reason


def with_metadata(fill: float, mib: int, ceiling: float = 100.0) -> Volume:
    return replace(pool(metadata=fill), metadata_size=mib * MIB, ceiling=ceiling)


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (pool(), ""),
        (replace(pool(), health="out_of_data"), "no room for data left"),
        (replace(pool(), health="failed"), "has failed"),
        (replace(pool(), health="metadata_read_only"), "cannot write its metadata"),
        (replace(pool(), health="something new"), ""),
        (replace(pool(), needs_check=True), "lvconvert --repair vg0/pool"),
        (replace(pool(), modules=frozenset(["dm-vdo", "thin-pool"])), "is stored by VDO"),
        (replace(pool(data=71.0), ceiling=70.0), "thin_pool_autoextend_threshold (70 %)"),
        (replace(pool(data=69.0), ceiling=70.0), ""),
        (with_metadata(74.9, 4), ""),
        (with_metadata(75.0, 4), "less than 25 % of its metadata free"),
        (with_metadata(94.0, 100), ""),
        (with_metadata(95.0, 1000), "makes its volumes read-only"),
        (with_metadata(72.0, 4, ceiling=70.0), "thin_pool_autoextend_threshold (70 %)"),
    ],
)
def test_a_pool_to_which_lvm_adds_nothing(volume: Volume, words: str) -> None:
    reason = pool_refusal(volume)
    assert words in reason if words else not reason
    assert volume_refusal(thin(VOLUME), GROUP, volume) == (
        f"is in the thin pool vg0/pool, which {reason}" if words else ""
    )
    told = [one for one in judge([volume], {}, None) if one.about == "vg0/pool"]
    assert any("runs are refused" in one.message for one in told) is bool(words)


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (Group("vg0", exported=True), "vgimport"),
        (Group("vg0", foreign=True, system_id="other"), "'other'"),
        (Group("vg0", lock_type="sanlock"), "vgchange --lockstart vg0"),
        (Group("vg0"), "lvmdevices(8)"),
    ],
)
def test_a_volume_that_lvm_does_not_list(group: Group, words: str) -> None:
    assert words in unlisted(VOLUME.dm_uuid, {VOLUME.vg_uuid: group})
    assert unlisted("CRYPT-LUKS2-x", {VOLUME.vg_uuid: group}) == ""
    assert "lvmdevices(8)" in unlisted(VOLUME.dm_uuid, {})


@pytest.mark.parametrize(("most", "refused"), [(0, False), (4, False), (3, True)])
def test_a_group_that_may_not_have_so_many_volumes(most: int, refused: bool) -> None:
    group = replace(GROUP, most=most, volumes=2)
    told = list(crowded([VOLUME, replace(VOLUME, name="other")], {VOLUME.vg_uuid: group}))
    assert bool(told) is refused
    assert not told or "vgchange --logicalvolume 4 vg0" in told[0]


@pytest.mark.parametrize(("free", "refused"), [(None, False), (8192, False), (8191, True), (0, True)])
def test_a_group_whose_description_cannot_become_longer(free: int | None, refused: bool) -> None:
    """4 KiB for each snapshot; where LVM tells no room, nothing is decided by it."""
    group = replace(GROUP, metadata_free=free)
    told = list(crowded([VOLUME, replace(VOLUME, name="other")], {VOLUME.vg_uuid: group}))
    assert bool(told) is refused
    assert not told or "needs 8.0 KiB for 2 snapshots" in told[0]


ROW = dict.fromkeys(lvm_groups.FIELDS.split(","), "") | {
    "pv_name": "/dev/sda", "pv_uuid": "p1", "pv_free": "8388608", "pv_allocatable": "allocatable", "vg_name": "vg0",
    "vg_uuid": "v", "vg_permissions": "writeable", "max_lv": "0", "lv_count": "2",
}  # fmt: skip


def report(*changes: dict[str, str]) -> dict[str, Group]:
    return lvm_groups.parse(json.dumps({"report": [{"pv": [ROW | change for change in changes]}]}))


def test_the_disks_of_a_group_whose_name_another_one_has() -> None:
    def rows(*known: tuple[str, str, str]) -> str:
        names = ("pv_name", "vg_name", "vg_uuid")
        return json.dumps({"report": [{"pv": [dict(zip(names, row, strict=True)) for row in known]}]})

    ours = (("/dev/sda", "vg0", "v"), ("/dev/sdb", "vg0", "v"), ("/dev/sdc", "other", "o"), ("/dev/sdd", "", ""))
    assert lvm_groups.only(rows(*ours), "v") == []
    assert lvm_groups.only(rows(*ours, ("/dev/sde", "vg0", "w")), "v") == ["--devices", "/dev/sda,/dev/sdb"]
    with pytest.raises(SnapshotError):
        lvm_groups.only('{"report": [{"pv": [{}]}]}', "v")


def test_the_report_of_groups() -> None:
    """As lvm2 2.03.16 writes it."""
    rows: tuple[dict[str, str], ...] = (
        {},
        {"pv_name": "/dev/sdb", "pv_allocatable": "", "pv_free": "4194304", "pv_tags": "fast,old"},
        {"pv_name": "[unknown]", "pv_uuid": "gone", "pv_missing": "missing"},
        {"pv_name": "/dev/sdc", "pv_allocatable": "", "pv_free": "", "pv_duplicate": "duplicate"},
        {"pv_name": "/dev/sdd", "vg_uuid": "", "vg_name": ""},
    )
    disks = (Disk("/dev/sda", 8 * MIB),)
    others = (Disk("/dev/sdb", 4 * MIB, tags=("fast", "old"), allocatable=False),)
    known = {"reserved": 4 * MIB, "volumes": 2}
    expected = Group("vg0", missing=("gone",), duplicates=("/dev/sdc",), disks=disks, others=others, **known)  # type: ignore[arg-type]
    assert report(*rows) == {"v": expected}
    assert report(
        {"vg_exported": "exported", "vg_permissions": "read-only", "vg_lock_type": "none", "max_lv": "7"}
    ) == {"v": Group("vg0", exported=True, writable=False, most=7, volumes=2, disks=disks)}


@pytest.mark.parametrize(
    ("own", "blocks", "disks", "free"),
    [
        (512, (512, 512), (), 28),
        (512, (512, 4096), ("/dev/a",), 8),
        (512, (4096, 4096), (), 0),
        (4096, (4096, 4096), (), 28),
        (4096, (512, 4096), (), 28),
        (512, (512, 0), (), 28),
        (OSError("not active"), (512, 4096), (), 28),
    ],
)
def test_space_is_taken_from_disks_with_no_larger_blocks(
    monkeypatch: pytest.MonkeyPatch, own: object, blocks: tuple[int, int], disks: tuple[str, ...], free: int
) -> None:
    """A snapshot on a disk with blocks of 4 KiB has such, and a file system with smaller ones cannot be mounted."""

    def block(number: int) -> object:
        if isinstance(own, OSError):
            raise own
        return own

    monkeypatch.setattr("borg_lvm.machine.lvm.safe_open.own_device_number", lambda name: 0)
    monkeypatch.setattr("borg_lvm.machine.lvm.block_devices.logical_block", block)
    group = replace(GROUP, disks=(Disk("/dev/a", 8 * MIB, blocks[0]), Disk("/dev/b", 20 * MIB, blocks[1])))
    found = lvm.completed(replace(VOLUME, vg_free=28 * MIB), group, {})
    assert (found.vg_disks, found.vg_free, found.vg_reserved) == (disks, free * MIB, (28 - free) * MIB)
    _, problems = allot([found], Size("bytes", 12 * MIB))
    assert any("or with larger logical blocks" in one for one in problems) is (free < 12)


def test_groups_of_one_name() -> None:
    """LVM does nothing by such a name, unless all others of it are other hosts'."""
    groups = report({}, {"vg_uuid": "w", "pv_uuid": "p2"}, {"vg_uuid": "x", "pv_uuid": "p3", "vg_name": "vg1"})
    found = lvm_groups.with_namesakes(groups)
    assert {uuid: group.namesake for uuid, group in found.items()} == {"v": "w", "w": "v", "x": ""}
    foreign = groups | {"w": replace(groups["w"], foreign=True)}
    assert lvm_groups.with_namesakes(foreign)["v"].namesake == ""


def test_check_tells_groups_of_one_name_apart() -> None:
    other = replace(VOLUME, vg_uuid="other", uuid="other", vg_free=0)
    told = list(judge([VOLUME, other], {VOLUME.vg_uuid: GROUP, "other": replace(GROUP, exported=True)}, None))
    assert [one.about for one in told] == ["group vg0", "group vg0"]
    assert "is exported" in "".join(one.message for one in told)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        "[" * 100000,
        '{"report": [{"pv": [1]}]}',
        '{"report": [{"lv": []}]}',
        '{"report": [{"pv": [{}]}]}',
    ],
)
def test_any_other_report_is_an_error(text: str) -> None:
    with pytest.raises(SnapshotError, match="pvs gave a report"):
        lvm_groups.parse(text)


def superblock(
    *, compatible: int = 4, incompatible: int = 0, inode: int = 8, uuid: bytes = b"", magic: int = 0xEF53
) -> bytes:
    data = bytearray(1024)
    struct.pack_into("<H", data, 0x38, magic)
    struct.pack_into("<2I", data, 0x5C, compatible, incompatible)
    data[0xD0 : 0xD0 + len(uuid)] = uuid
    struct.pack_into("<I", data, 0xE0, inode)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "journal"),
    [
        (superblock(), ext_superblock.Journal()),
        (superblock(inode=0, uuid=b"x" * 16), ext_superblock.Journal(elsewhere=True)),
        (superblock(inode=0, uuid=b"x" * 16, incompatible=4), ext_superblock.Journal(elsewhere=True, dirty=True)),
        (superblock(compatible=0, inode=0), ext_superblock.Journal()),
        (superblock(inode=0, uuid=b"x" * 16, magic=1), ext_superblock.Journal()),
        (b"", ext_superblock.Journal()),
    ],
)
def test_where_the_journal_is(data: bytes, journal: ext_superblock.Journal) -> None:
    assert ext_superblock.parse(data) == journal


@pytest.mark.parametrize(
    ("fstype", "given", "lone", "options"),
    [
        ("ext4", "rw", False, "errors=continue"),
        ("ext4", "rw", True, "errors=continue,noload"),
        ("ext4", "ro,norecovery", False, "errors=continue,noload"),
        ("ext4", "rw,sb=8193,data=ordered", False, "errors=continue,sb=8193"),
        ("xfs", "ro,norecovery", False, "nouuid,norecovery"),
        ("btrfs", "rw,compress=zstd:3,subvolid=256,subvol=/@", False, "subvolid=5"),
        ("btrfs", "ro,noacl,rescue=usebackuproot,subvolid=5,subvol=/", False, "subvolid=5,noacl,rescue=usebackuproot"),
    ],
)
def test_a_copy_is_mounted_as_its_file_system_had_to_be(fstype: str, given: str, lone: bool, options: str) -> None:
    mount = Mount(1, 0, "254:0", "/", "/a", "rw", fstype, "/dev/dm-0", given)
    assert file_systems.mount_options(mount, lone=lone) == options


def test_only_the_reasons_of_a_command_that_failed_are_told() -> None:
    """As lvm2 2.03.16 said it."""
    said = [
        "WARNING: Activation disabled. No device-mapper interaction will be attempted.",
        "WARNING: Converting logical volume vg0/s to snapshot exception store.",
        "THIS WILL DESTROY CONTENT OF LOGICAL VOLUME (filesystem etc.)",
        "Snapshots of raid with integrity are not supported.",
    ]
    assert shell.reasons(said) == ("Snapshots of raid with integrity are not supported.",)
    assert shell.reasons(said[:1]) == (said[0],)
    assert shell.reasons(['Logical volume "s" created.', "", "a", "a"]) == ("a",)


def test_the_message_begins_with_the_reason() -> None:
    one = create._not_made({"vg0/a": ("no space", "try again")})
    assert (one.message, one.details) == ("LVM did not make the snapshot of vg0/a: no space", ("try again",))
    two = create._not_made({"vg0/a": ("no space",), "vg1/b": ("locked",)})
    assert two.message == "LVM did not make the snapshot of vg0/a, vg1/b: no space"
    assert two.details == ("vg0/a: no space", "vg1/b: locked")
    assert "does not say why" in create._not_made({"vg0/a": ()}).message


def test_a_volume_that_somebody_resumes_is_worth_another_attempt() -> None:
    error = hold.resumed_by_others("vg0/a")
    assert isinstance(error, BusyError)
    assert error.status == 71
    assert "somebody resumed vg0/a" in error.message
    assert "vgchange" in error.remedy
