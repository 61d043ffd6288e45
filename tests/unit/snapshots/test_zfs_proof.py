"""That snapshots of datasets are of one group of transactions, and ours, is read back."""

from __future__ import annotations

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.snapshots.zfs.hold import judge

RUN = "20260101T000000-aaaaaa"
NAMES = [f"tank/home@borg_lvm-{RUN}-0", f"tank/leg@borg_lvm-{RUN}-1"]


def read(first: str, second: str, run_id: str = RUN) -> dict[tuple[str, str], str]:
    said = {(name, "createtxg"): number for name, number in zip(NAMES, (first, second), strict=True)}
    return said | {(name, "borg-lvm:run"): run_id for name in NAMES}


def test_one_group_of_transactions() -> None:
    assert judge(NAMES, RUN, read("20", "20")) == 20


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (read("20", "21"), "not of one group of transactions"),
        (read("-", "-"), "not of one group of transactions"),
        (read("20", "20", "-"), "somebody else has made it"),
        ({}, "somebody else has made it"),
    ],
)
def test_what_is_no_proof(said: dict[tuple[str, str], str], words: str) -> None:
    with pytest.raises(SnapshotError, match=words):
        judge(NAMES, RUN, said)
