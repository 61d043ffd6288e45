"""Several subvolumes: which transaction has a snapshot of each."""

from __future__ import annotations

import pytest

from borg_lvm.snapshots.btrfs.one_transaction import judge


@pytest.mark.parametrize(
    ("found", "number"),
    [
        ([("a", 7), ("a", 8), ("b", 8), ("b", 9)], 8),
        ([("a", 7), ("a", 8), ("b", 9), ("b", 8), ("a", 9)], 8),
        ([("a", 7), ("a", 8), ("b", 6), ("b", 9)], None),
        ([("a", 7), ("b", 7), ("c", 8), ("c", 9)], None),
        ([("a", 7), ("b", 7), ("c", 8), ("a", 8), ("c", 9), ("b", 8)], 8),
        ([], None),
    ],
)
def test_the_first_transaction_that_has_all_counts(found: list[tuple[str, int]], number: int | None) -> None:
    assert judge(found) == number
