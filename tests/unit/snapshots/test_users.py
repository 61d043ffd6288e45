"""Which rows of a mount table show a snapshot: those of a btrfs have its name, not its number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from borg_lvm.linux import btrfs
from borg_lvm.machine import block_devices
from borg_lvm.machine.block_devices import BlockDevice
from borg_lvm.snapshots import users

NUMBER = os.makedev(253, 700000)
SNAPSHOT = BlockDevice("253:700000", "dm-700000", "my--vg-borg_lvm--1--0", "LVM-x", False, ())
TABLE = """\
50 43 253:700000 / /srv ro,nosuid - ext4 /dev/mapper/my--vg-borg_lvm--1--0 ro
51 43 0:33 /@ /data ro,nosuid - btrfs {name} ro,subvolid=5,subvol=/
52 43 0:34 / /tmp rw - tmpfs {name} rw
53 43 0:35 / /other rw shared:1 - btrfs /dev/mapper/my--vg-borg_lvm--1--00 rw
"""


@pytest.mark.parametrize("name", ["/dev/mapper/my--vg-borg_lvm--1--0", "/dev/dm-700000", "/dev/my-vg/borg_lvm-1-0"])
def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(block_devices, "described", {SNAPSHOT.number: SNAPSHOT}.get)
    table = tmp_path / "mountinfo"
    table.write_text(TABLE.format(name=name))
    assert [row[4] for row in users._rows(users._marks_of([NUMBER]), str(table))] == [b"/srv", b"/data"]


def test_a_subvolume_is_known_by_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its device is that of the live file system, whose other mounts show nothing of it."""
    monkeypatch.setattr(btrfs, "_APART", {})
    number = btrfs.set_apart(os.makedev(0, 50), "/.borg-lvm/borg_lvm-1-0")
    table = tmp_path / "mountinfo"
    table.write_text(
        "50 43 0:33 /.borg-lvm/borg_lvm-1-0 /whole ro - btrfs /dev/sdb rw\n"
        "51 43 0:33 /.borg-lvm/borg_lvm-1-0/a/b /part ro - btrfs /dev/sdb rw\n"
        "52 43 0:33 /.borg-lvm/borg_lvm-1-01 /another ro - btrfs /dev/sdb rw\n"
        "53 43 0:33 /@data /live rw - btrfs /dev/sdb rw\n"
        "54 43 0:50 /.borg-lvm/borg_lvm-1-0 /none rw - tmpfs none rw\n"
    )
    assert [row[4] for row in users._rows(users._marks_of([number]), str(table))] == [b"/whole", b"/part"]


def test_a_device_that_is_gone(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE.format(name="/dev/"))
    assert users._rows(users._marks_of([os.makedev(253, 1048575)]), str(table)) == []
