"""What the next snapshot is expected to need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm.planning.space.usage_estimate import MOST_MORE, SAFETY, Once, expected
from tests.unit.data.machine import GIB, MIB


def once(used: int, seconds: float = 3600, **more: int) -> Once:
    return Once(seconds, used, 4 * GIB, written=more.get("written", 0))


def size(*past: Once, speed: float = 0.0) -> int:
    found = expected(past, speed)
    assert found
    return found.size


def test_nothing_is_known() -> None:
    assert expected([], 1e9) is None


def test_half_as_much_again_as_the_most_of_the_last_five() -> None:
    assert size(once(GIB)) == GIB * 3 // 2
    assert size(once(9 * GIB), *[once(GIB)] * 4, once(2 * GIB)) == 3 * GIB


def test_a_short_busy_run_and_a_long_calm_one() -> None:
    assert size(once(100 * MIB, 1000), once(100 * MIB, 1300)) == 195 * MIB
    assert size(once(100 * MIB, 10), once(100 * MIB, 3600)) == 240 * MIB


def test_a_volume_that_is_busier_now() -> None:
    past = once(GIB, 1000, written=GIB)
    assert size(past, speed=GIB / 1000) == GIB * 3 // 2
    assert size(past, speed=1.2 * GIB / 1000) == int(int(1.2 * GIB) * 1.5)
    assert size(past, speed=GIB) == int(int(1.6 * GIB) * 1.5)
    assert size(past, speed=0) == GIB * 3 // 2
    found = expected([past], GIB)
    assert found
    assert found.why == "the last run used {}, and the volume is busier now"


def test_a_lost_one_needed_more_than_it_had() -> None:
    found = expected([once(GIB), Once(100, 3 * GIB, 3 * GIB, lost=True)], 0)
    assert found
    assert found.used == 6 * GIB
    assert found.why == "one of the last 2 runs has lost its snapshot, and may have needed {}"


@pytest.mark.parametrize(
    ("past", "chunks", "why"),
    [
        ([once(GIB)], "", "the last run used 1.0 GiB"),
        ([once(GIB)] * 3, "", "the fullest of the last 3 runs used 1.0 GiB"),
        (
            [once(GIB)] * 3,
            " with chunks of 64 KiB",
            "the fullest of the last 3 runs would have used 1.0 GiB with chunks of 64 KiB",
        ),
        (
            [once(GIB, 10), once(GIB, 3600)],
            "",
            "the fullest of the last 2 runs used 1.0 GiB, and a longer run may use more",
        ),
    ],
)
def test_the_reason_is_one_that_a_person_reads_once(past: list[Once], chunks: str, why: str) -> None:
    found = expected(past, 0, chunks)
    assert found
    assert found.why.format("1.0 GiB") == why


RUNS = st.lists(st.builds(Once, st.floats(0.1, 1e5), st.integers(1, 1 << 40), st.just(1 << 41)), min_size=1, max_size=9)


@given(RUNS, st.floats(0, 1e10))
def test_never_more_than_three_times_what_was_used(past: list[Once], speed: float) -> None:
    most = max(one.used for one in past[-5:])
    found = expected(past, speed)
    assert found
    assert SAFETY * most - 2 <= found.size <= SAFETY * MOST_MORE * most < 3 * most
