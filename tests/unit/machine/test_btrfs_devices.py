"""What a btrfs lies on is named as an administrator knows it."""

from __future__ import annotations

import pytest

from borg_lvm.linux import btrfs
from borg_lvm.linux.btrfs import Mounted
from borg_lvm.machine import block_devices, btrfs_devices
from borg_lvm.machine.block_devices import BlockDevice


def test_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = BlockDevice("254:1", "dm-1", "vg0-two", "LVM-x", suspended=False, slaves=())
    disk = BlockDevice("8:17", "sdb1", "", "", suspended=False, slaves=())
    known = {one.number: one for one in (volume, disk)}
    monkeypatch.setattr(block_devices, "gather", lambda numbers: {one: known[one] for one in numbers if one in known})
    monkeypatch.setattr(btrfs, "mounted", lambda: [Mounted("id", ("254:1", "8:17", "8:33"))])
    (found,) = btrfs_devices.look({"254:1": volume}).values()
    assert found.devices == ("/dev/mapper/vg0-two", "/dev/sdb1", "8:33")
