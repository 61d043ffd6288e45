"""Whose the directory of snapshots in a btrfs must be."""

from __future__ import annotations

import os

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.snapshots.btrfs import top_level


def directory(mode: int, owner: int = 0, inode: int = 257) -> os.stat_result:
    return os.stat_result((0o40000 | mode, inode, 0, 1, owner, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("top", "own"),
    [
        (directory(0o755), directory(0o700, owner=1000)),
        (directory(0o755), directory(0o750)),
        (directory(0o755), directory(0o701)),
        (directory(0o755), directory(0o700, inode=256)),  # a subvolume
        (directory(0o755, owner=1000), directory(0o700)),
        (directory(0o775), directory(0o700)),
        (directory(0o757), directory(0o700)),
    ],
)
def test_others_are_refused(top: os.stat_result, own: os.stat_result) -> None:
    with pytest.raises(SnapshotError):
        top_level.refuse_others(top, own, "/dev/sdb")


@pytest.mark.parametrize("top", [directory(0o755), directory(0o700), directory(0o1777)])
def test_one_of_root_s_alone(top: os.stat_result) -> None:
    top_level.refuse_others(top, directory(0o700), "/dev/sdb")
