"""A logical volume that is itself the source: a virtual machine's disk, a database's raw space."""

from __future__ import annotations

import pytest

from borg_lvm.errors import SourceError
from borg_lvm.planning import plan
from borg_lvm.view.mounting import steps
from tests.unit.data.machine import Machine, device

NODE, NAME = "/dev/dm-7", "/dev/vg0/disk"


def machine() -> Machine:
    made = Machine()
    made.other("/dev", "devtmpfs")
    made.mount("/srv", "vg0/srv")
    made.add("vg0/disk")
    return made


def made(on: Machine, *sources: str, raw: str = "vg0/disk", **settings: object) -> plan.Plan:
    return on.plan(on.resolve(*sources, device(NODE, on.on[raw], NAME)), **settings)


def test_its_device_is_covered_by_that_of_its_snapshot() -> None:
    found = made(machine())
    (snapshot,) = found.snapshots
    assert (snapshot.fstype, snapshot.mounted_at, snapshot.options, snapshot.hold, snapshot.raw) == (
        "raw",
        "",
        "",
        "suspend",
        True,
    )
    assert snapshot.origin_device == "/dev/mapper/vg0-disk"
    assert [(view_mount.target, view_mount.device, view_mount.because) for view_mount in found.view_mounts] == [
        (NODE, True, NAME)
    ]
    assert [(step.source, step.target) for step in steps(found, "/staging")] == [(snapshot.volume_device, NODE)]


def test_together_with_its_file_system_it_is_copied_once_and_held_as_that() -> None:
    on = machine()
    on.mount("/mnt", "vg0/disk")
    found = made(on, "/mnt")
    (snapshot,) = found.snapshots
    assert (snapshot.fstype, snapshot.mounted_at) == ("ext4", "/mnt")
    assert {view_mount.target: view_mount.device for view_mount in found.view_mounts} == {"/mnt": False, NODE: True}


def test_below_a_frozen_root_it_is_laid_over_the_live_devices() -> None:
    found = made(machine(), "/")
    order = [step.target for step in steps(found, "/staging")]
    assert order.index("/dev") < order.index(NODE)


def test_what_is_no_logical_volume_is_refused() -> None:
    on = machine()
    with pytest.raises(SourceError) as told:
        on.plan(on.resolve(device("/dev/sda1", "8:1")))
    assert told.value.details == (
        "/dev/sda1: it is the block device 8:1, which is not a logical volume; "
        "if it may be read live: --live /dev/sda1, or `live: [/dev/sda1]` in the configuration",
    )


def test_an_open_luks_mapping_is_refused() -> None:
    on = machine()
    on.luks("vg0/disk", "safe")
    with pytest.raises(SourceError, match="cannot freeze") as told:
        made(on, raw="safe")
    assert "it is the mapping safe; name the logical volume below it" in told.value.details[0]


def test_a_volume_and_the_luks_on_it_are_not_copied_both() -> None:
    on = machine()
    on.luks("vg0/disk", "safe")
    on.mount("/secret", "safe")
    with pytest.raises(SourceError) as told:
        made(on, "/secret", key_files={"vg0/disk": ""})
    assert f"{NODE} and /secret are both on vg0/disk; name one of them" in told.value.details
