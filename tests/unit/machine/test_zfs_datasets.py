"""What ZFS 2.3.2 has printed of two pools, and which of its snapshots are ours."""

from __future__ import annotations

import os

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.machine import zfs_datasets
from borg_lvm.machine.mounts import parse
from borg_lvm.machine.zfs_datasets import KEEP_PROPERTY, RUN_PROPERTY, OwnSnapshot, own, run_of

POOLS = (
    "other\t10594987320958166053\toff\tONLINE\n"
    "\t/dev/shm/d3\t314572800\t124416\t301865472\t-\t-\t5\t0\t-\tONLINE\n"
    "tank\t16330649875157840069\ton\tDEGRADED\n"
    "\tmirror-0\t314572800\t195584\t301794304\t-\t-\t1\t0\t-\tONLINE\n"
    "\t/dev/null\t-\t-\t-\t-\t-\t-\t-\t-\tONLINE\n"
    "\t/dev/full\t314572800\t287744\t301702144\t-\t-\t3\t0\t-\tONLINE\n"
)
DATASETS = (
    "tank\t6596172349291363935\t381440\t469380608\n"
    "tank/with space\t11487363042317929442\t24576\t469380608\n"
    "other\t123\t24576\t469380608\n"
)
MOUNTS = r"""
39 31 0:36 / /mnt/home rw,relatime shared:13 - zfs tank/home rw,xattr,noacl,casesensitive
41 31 0:38 / /mnt/with\040space rw,relatime shared:15 - zfs tank/with\040space rw,xattr,noacl,casesensitive
43 39 0:40 / /mnt/home/.zfs/snapshot/manual rw,relatime shared:17 - zfs tank/home@manual ro,xattr,noacl,casesensitive
47 31 0:41 / /mnt/s ro,nosuid,nodev,relatime shared:17 - zfs tank/home@manual ro,xattr,noacl,casesensitive
"""
RUN = "20260101T000000-aaaaaa"
OURS = f"tank/with space@borg_lvm-{RUN}-3"


def test_what_is_printed_of_pools_and_datasets() -> None:
    known = zfs_datasets.parse(POOLS, DATASETS)
    assert set(known) == {"tank", "tank/with space", "other"}
    found = known["tank/with space"]
    assert (found.full_name, found.pool, found.pool_id) == ("zfs:tank/with space", "tank", "16330649875157840069")
    assert found.uuid == "16330649875157840069-11487363042317929442"
    assert (found.read_only, found.state) == (True, "DEGRADED")
    assert (found.size, found.vg_free) == (381440 + 469380608, 469380608)
    null, full = (os.stat(path).st_rdev for path in ("/dev/null", "/dev/full"))
    assert found.devices == tuple(f"{os.major(number)}:{os.minor(number)}" for number in (null, full))
    assert (known["other"].state, known["other"].read_only) == ("ONLINE", False)
    assert found.together == known["tank"].together != known["other"].together
    assert found.snapshot("x") == "tank/with space@x"


@pytest.mark.parametrize("listed", ["tank\t1\tnone\t2\n", "lost/x\t1\t2\t3\n", "tank\n"])
def test_what_cannot_be_read_is_said(listed: str) -> None:
    with pytest.raises(SnapshotError, match="cannot be read"):
        zfs_datasets.parse(POOLS, listed)


def test_no_process_for_what_is_no_dataset() -> None:
    table = [mount for mount in parse(MOUNTS) if "@" in mount.source]
    assert zfs_datasets.look(table, 1.0) == {}


def test_what_zfs_mounts_by_itself() -> None:
    assert [mount.path for mount in parse(MOUNTS) if mount.is_automatic_snapshot] == ["/mnt/home/.zfs/snapshot/manual"]


def test_which_snapshots_are_ours() -> None:
    """Both the name and the property: a name alone anybody can give."""
    theirs = ["tank@manual", f"tank@borg_lvm-{RUN}-3x", f"tank@borg_lvm-{RUN}-4", f"tank@borg_lvm-{RUN}-5"]
    said = {(name, RUN_PROPERTY): RUN for name in (OURS, *theirs[:2])}
    said |= {(theirs[2], RUN_PROPERTY): "-", (theirs[3], RUN_PROPERTY): "20260101T000000-bbbbbb"}
    assert own([OURS, *theirs], said) == [OwnSnapshot(OURS, RUN, kept=False)]
    assert own([OURS], said | {(OURS, KEEP_PROPERTY): "yes"}) == [OwnSnapshot(OURS, RUN, kept=True)]
    assert [run_of(name) for name in (OURS, *theirs[:2])] == [RUN, "", ""]
