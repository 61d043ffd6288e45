"""On which physical volumes the space of snapshots lies, and every reason why it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from borg_lvm.config import Size
from borg_lvm.machine.lvm import Volume
from borg_lvm.machine.lvm_groups import Disk, Group
from borg_lvm.planning.snapshot_size import allot
from borg_lvm.planning.space.physical_volumes import Places, place
from tests.unit.data.machine import GIB, VOLUME, thin

SLOW, FAST, SPARE = (
    Disk("/dev/sda2", 100 * GIB),
    Disk("/dev/nvme0n1p4", 20 * GIB, tags=("fast",)),
    Disk("/dev/sdb", 5 * GIB),
)
FULL, CLOSED = Disk("/dev/sdc", 0, tags=("old",)), Disk("/dev/sdd", 9 * GIB, allocatable=False)
GROUP = Group("vg0", disks=(SLOW, FAST, SPARE), others=(FULL, CLOSED))


def volume(name: str = "home", size: int = 10 * GIB) -> Volume:
    return replace(VOLUME, name=name, uuid=name, vg_uuid="v", vg_free=125 * GIB, size=size)


def placed(*volumes: Volume, places: Places) -> list[tuple[str, ...]]:
    found, problems = place(volumes, {"v": GROUP}, places)
    assert problems == []
    assert list(found) == [one.uuid for one in volumes]
    return [one.vg_disks for one in found.values()]


def problem(*volumes: Volume, places: Places) -> str:
    (words,) = place(volumes, {"v": GROUP}, places)[1]
    return words


@pytest.mark.parametrize("name", ["/dev/nvme0n1p4", "@fast"])
def test_by_name_or_tag_for_all_or_for_one(name: str) -> None:
    for places in (Places((name,)), Places((), {"vg0/home": (name,)}), Places(("/dev/sda2",), {"vg0/home": (name,)})):
        (one,) = place([volume()], {"v": GROUP}, places)[0].values()
        assert (one.vg_disks, one.vg_chosen) == (("/dev/nvme0n1p4",), True)
        assert (one.vg_free, one.vg_reserved) == (20 * GIB, 105 * GIB)


def test_nothing_is_said() -> None:
    assert place([volume()], {"v": GROUP}, Places()) == ({"home": volume()}, [])
    assert placed(volume(), places=Places((), {"vg0/other": ("@fast",)})) == [()]
    assert placed(volume(), places=Places(("@fast",), {"vg0/home": ()})) == [()]


def test_all_of_them_is_as_if_nothing_was_said() -> None:
    assert placed(volume(), places=Places(("/dev/sda2", "@fast", "/dev/sdb"))) == [()]


def test_who_names_one_has_it_alone() -> None:
    both = placed(volume("a"), volume("b"), places=Places((), {"vg0/a": ("@fast",)}))
    assert both == [("/dev/nvme0n1p4",), ("/dev/sda2", "/dev/sdb")]
    assert placed(volume("a"), volume("b"), places=Places(("@fast",))) == [("/dev/nvme0n1p4",)] * 2


def test_thin_volumes_and_other_groups_are_not_concerned() -> None:
    other = replace(volume("other"), vg="vg1", vg_uuid="w")
    groups = {"v": GROUP, "w": Group("vg1", disks=(Disk("/dev/sdx", GIB),))}
    found, problems = place([volume(), thin(volume("thin")), other], groups, Places(("@fast",)))
    assert problems == []
    assert [one.vg_disks for one in found.values()] == [("/dev/nvme0n1p4",), (), ()]


def test_one_with_larger_blocks_is_not_taken() -> None:
    fine = replace(volume(), vg_coarse=True, vg_disks=("/dev/sda2", "/dev/sdb"))
    assert placed(fine, places=Places(("/dev/sdb", "@fast"))) == [("/dev/sdb",)]
    assert "have larger logical blocks than it: /dev/nvme0n1p4" in problem(fine, places=Places(("@fast",)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/dev/sdz", "/dev/sdz is none in the volume groups of this run (vg0)"),
        ("@no", "no physical volume has the tag @no in the volume groups of this run (vg0)"),
        ("/dev/sdd", "vg0/home: nothing may be allocated from /dev/sdd"),
        ("@old", "on which the space of its snapshot is to lie have nothing free: /dev/sdc"),
    ],
)
def test_what_cannot_be(name: str, words: str) -> None:
    assert words in problem(volume(), places=Places((name,)))


@pytest.mark.parametrize("name", ["/dev/sdz", "@no"])
def test_what_is_named_for_a_volume_must_be_in_its_group(name: str) -> None:
    words = problem(volume(), places=Places((), {"vg0/home": ("@fast", name)}))
    assert words.startswith("vg0/home: the space of its snapshot is to lie on certain physical volumes")
    assert words.endswith("it has /dev/nvme0n1p4, /dev/sda2, /dev/sdb, /dev/sdc, /dev/sdd")


def test_what_is_shared_in_part_is_nobodys() -> None:
    places = Places((), {"vg0/a": ("@fast", "/dev/sda2"), "vg0/b": ("@fast",)})
    assert "the snapshots of vg0/a and vg0/b are to share /dev/nvme0n1p4 only" in problem(
        volume("a"), volume("b"), places=places
    )


def test_too_little_there_is_said_of_there() -> None:
    (one,) = place([volume(size=500 * GIB)], {"v": GROUP}, Places(("@fast",)))[0].values()
    (words,) = allot([one], Size())[1]
    assert words.startswith("volume group vg0 has 20.0 GiB free on /dev/nvme0n1p4 (snapshot.physical_volumes); ")
    assert allot([volume(size=500 * GIB)], Size())[1] == []
