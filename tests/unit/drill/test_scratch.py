"""Scratch space: which volume group is taken, what is believed to be a drill's volume, and what `clean` removes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from borg_lvm.drill import removal, scratch, scratch_volume
from borg_lvm.errors import SourceError
from borg_lvm.linux import safe_open
from borg_lvm.machine.lvm import RUN_TAG, SCRATCH_TAG, TAG
from borg_lvm.machine.lvm_groups import Disk, Group
from borg_lvm.planning import ownership
from borg_lvm.planning.ownership import RecordedSnapshots
from borg_lvm.state.ledger import LedgerEntry
from tests.unit.data import machine

RUN = "20261124T020000-00ab12"
ROOMY = Group("vg1", disks=(Disk("/dev/a", 5 << 30), Disk("/dev/b", 4 << 30)))
SMALL = Group("vg0", disks=(Disk("/dev/c", 6 << 30),))
UNUSABLE = [
    replace(ROOMY, writable=False),
    replace(ROOMY, missing=("x",)),
    replace(ROOMY, exported=True),
    replace(ROOMY, foreign=True),
    replace(ROOMY, lock_type="sanlock"),
    replace(ROOMY, duplicates=("/dev/x",)),
    replace(ROOMY, namesake="x"),
]


def test_the_group_with_most_room_is_taken() -> None:
    assert scratch_volume.roomiest([SMALL, ROOMY], {"vg0", "vg1"}) == ("vg1", 9 << 30)


@pytest.mark.parametrize("group", UNUSABLE)
def test_a_group_that_may_not_be_changed_is_not_taken(group: Group) -> None:
    assert scratch_volume.roomiest([group, SMALL], {"vg0", "vg1"}) == ("vg0", 6 << 30)


def test_without_free_extents_there_is_no_scratch_space() -> None:
    with pytest.raises(SourceError, match=r"no volume group of the run \(vg0, vg1\) has free extents"):
        scratch_volume.roomiest([Group("vg0"), UNUSABLE[0]], {"vg0", "vg1"})


def test_a_group_that_the_run_knows_nothing_of_may_be_anybodys() -> None:
    assert scratch_volume.roomiest([SMALL, ROOMY], {"vg0"}) == ("vg0", 6 << 30)
    with pytest.raises(SourceError, match=r"no volume group of the run \(vg\) has free extents"):
        scratch_volume.roomiest([SMALL, ROOMY], {"vg"})


def test_a_volume_of_a_drill_is_ours_by_name_kind_and_tags() -> None:
    tags = (TAG, f"{RUN_TAG}{RUN}", SCRATCH_TAG)
    volume = replace(
        machine.VOLUME, name=f"borg_lvm-{RUN}-0", tags=tags, attr="-wi-a-----", origin="", layout=frozenset({"linear"})
    )
    wrong = [
        replace(volume, tags=tags[:2]),
        replace(volume, tags=tags[1:]),
        replace(volume, name="data"),
        replace(volume, name="borg_lvm-20261124T020000-ffffff-0"),
        replace(volume, origin="data"),
        replace(volume, attr="Vwi-a-tz--", layout=frozenset({"thin"})),
    ]
    assert ownership.is_ours(volume, [volume], RecordedSnapshots())
    assert not [one for one in wrong if ownership.is_ours(one, [one], RecordedSnapshots())]


def test_what_a_dead_drill_has_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    ours, other = tmp_path / f"{scratch.PREFIX}{RUN}", tmp_path / "other"
    for directory in (ours, other):
        (directory / "tree").mkdir(parents=True)
        os.symlink(other, directory / "tree" / "link")
    steps: tuple[dict[str, object], ...] = (
        {"step": "scratch", "path": str(ours)},
        {"step": "scratch", "path": str(other)},
        {"step": "scratch", "path": str(tmp_path / "gone" / f"{scratch.PREFIX}{RUN}")},
    )
    left = scratch.left(LedgerEntry(RUN, None, "", steps))
    assert [str(other) in one for one in left] == [True]
    assert sorted(os.listdir(tmp_path)) == ["other"]
    assert scratch.left(None) == []


def nested(top: Path, depth: int) -> None:
    """Make directories in one another, with a file and a link in each."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.symlink("/etc", "link", dir_fd=fd)
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd))
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def test_however_deep_it_is_all_of_it_is_removed(tmp_path: Path) -> None:
    """A path in an archive has a thousand and more directories; what a judge has made in there may be deeper still."""
    (tmp_path / "scratch" / "tree").mkdir(parents=True)
    (tmp_path / "beside").write_text("stays")
    nested(tmp_path / "scratch" / "tree", 2500)
    scratch.remove(str(tmp_path / "scratch"))
    assert os.listdir(tmp_path) == ["beside"]
    scratch.remove(str(tmp_path / "scratch"))


def test_what_lies_behind_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "scratch" / "tree").mkdir(parents=True)
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "file").write_text("stays")
    os.symlink(tmp_path / "away", tmp_path / "scratch" / "tree" / "link")
    scratch.remove(str(tmp_path / "scratch"))
    assert (tmp_path / "away" / "file").read_text() == "stays"
    os.symlink(tmp_path / "away", tmp_path / "scratch")
    with safe_open.path(str(tmp_path)) as above, pytest.raises(OSError, match="symbolic links"):
        removal.remove("scratch", above)
    scratch.remove(str(tmp_path / "scratch"))
    assert (tmp_path / "away" / "file").read_text() == "stays"
