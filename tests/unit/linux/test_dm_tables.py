"""The tables of the devices that a snapshot consists of, as LVM itself makes them of the same volumes."""

from __future__ import annotations

import pytest

from borg_lvm.linux.device_mapper import Row
from borg_lvm.snapshots.lvm import tables

LINEAR = [Row(0, 98304, "linear", "7:0 2048"), Row(98304, 2048, "linear", "7:1 4096")]
STRIPED = [Row(0, 98304, "striped", "2 128 7:0 399360 7:1 6144")]
CACHE = [Row(0, 98304, "cache", "254:2 254:1 254:3 128 2 metadata2 writethrough smq 0")]


def raid(arguments: str) -> list[Row]:
    return [Row(0, 98304, "raid", arguments)]


def test_an_origin_and_its_snapshot_are_as_large_as_the_volume_was() -> None:
    assert tables.origin(LINEAR, "254:9") == [Row(0, 100352, "snapshot-origin", "254:9")]
    assert tables.snapshot(LINEAR, "254:9", "254:10", 8) == [Row(0, 100352, "snapshot", "254:9 254:10 P 8")]
    assert tables.thin([Row(0, 98304, "thin", "254:3 1")], "254:3", 2) == [Row(0, 98304, "thin", "254:3 2")]


def test_a_thin_snapshot_has_the_external_origin_of_its_volume() -> None:
    """What was never written to the volume would be read as zeros from the snapshot."""
    rows = [Row(0, 98304, "thin", "254:3 1 254:7")]
    assert tables.thin(rows, "254:3", 2) == [Row(0, 98304, "thin", "254:3 2 254:7")]


@pytest.mark.parametrize("rows", [LINEAR, STRIPED, CACHE])
def test_what_the_origin_was_stays_as_it_was(rows: list[Row]) -> None:
    assert tables.real(rows) == rows


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "raid1 4 0 nosync region_size 4096 2 254:6 254:7 254:8 254:9",
            "raid1 3 0 region_size 4096 2 254:6 254:7 254:8 254:9",
        ),
        ("raid1 5 0 rebuild 1 region_size 4096 2 - - 254:8 254:9", "raid1 3 0 region_size 4096 2 - - 254:8 254:9"),
        (
            "raid5_ls 5 128 region_size 4096 stripe_cache 256 3 254:0 254:1 254:2 254:3 254:4 254:5",
            "raid5_ls 5 128 region_size 4096 stripe_cache 256 3 254:0 254:1 254:2 254:3 254:4 254:5",
        ),
        ("raid10 7 128 rebuild 0 rebuild 2 raid10_copies 2 2 a b c d", "raid10 3 128 raid10_copies 2 2 a b c d"),
    ],
)
def test_a_raid_is_not_begun_anew(before: str, after: str) -> None:
    assert tables.real(raid(before)) == raid(after)


def test_which_of_them_must_not_work_twice() -> None:
    waits = [tables.must_wait(rows) for rows in (LINEAR, STRIPED, CACHE, raid("raid1 3 0 region_size 4096 1 - 1:1"))]
    assert waits == [False, False, True, True]


@pytest.mark.parametrize(
    ("kind", "status", "health"),
    [
        ("raid", "raid1 2 AA 98304/98304 idle 0 0 -", "AA"),
        ("raid", "raid1 2 Aa 4096/98304 recover 0 0 -", "AA"),
        ("raid", "raid1 2 DA 98304/98304 idle 0 0 -", "DA"),
        ("cache", "8 9/1280 128 4/176 14 70 66 138 0 4 0 2 metadata2", ""),
    ],
)
def test_a_disk_of_a_raid_that_has_failed_is_seen(kind: str, status: str, health: str) -> None:
    assert tables.health(kind, status) == health
