"""When a snapshot grows, by how much, and when a thin pool ends the backup."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm.config import Size
from borg_lvm.planning.snapshot_size import FLOOR
from borg_lvm.planning.space import growth_policy
from borg_lvm.planning.space.growth_policy import Curve, FillHistory, Sample
from tests.unit.data.machine import GIB, MIB


def course(*used: int, total: int = 100 * MIB, step: float = 1.0) -> FillHistory:
    """A course with a look every `step` seconds."""
    looks = [Sample(number * step, amount, total) for number, amount in enumerate(used)]
    made = FillHistory.begun(looks[0])
    for look in looks[1:]:
        made = made.then(look)
    return made


class TestSpeed:
    def test_nothing_is_known_after_one_look(self) -> None:
        assert course(5 * MIB).speed() == 0
        assert course(5 * MIB).left() == float("inf")

    def test_a_steady_one(self) -> None:
        made = course(*range(0, 50 * MIB, MIB))
        assert made.speed() == MIB
        assert made.left() == 51
        assert made.seconds == 49

    def test_a_burst_counts_at_once_and_is_remembered_for_a_while(self) -> None:
        calm = [MIB] * 40
        assert course(*calm, 31 * MIB).speed() == 10 * MIB  # three seconds back
        after = course(*calm, 31 * MIB, *[31 * MIB] * 10)
        assert after.speed() == after.left() ** -1 * 69 * MIB == MIB  # thirty seconds back
        assert course(*calm, 31 * MIB, *[31 * MIB] * 31).speed() == 0

    def test_a_burst_does_not_end_a_pool(self) -> None:
        made = course(*[MIB] * 40, 31 * MIB)
        assert made.left() < 7 < 60 < made.steady_left()

    def test_only_a_while_is_remembered(self) -> None:
        made = course(*range(0, 10_000 * 1024, 1024), total=GIB)
        assert len(made.latest) <= growth_policy.REMEMBERED + 2
        assert made.first.used == 0

    def test_looks_far_apart_are_remembered_all_the_same(self) -> None:
        assert course(0, 60 * MIB, step=60).speed() == MIB


class TestWanted:
    def test_a_calm_snapshot_stays_as_it_is(self) -> None:
        assert growth_policy.wanted(course(MIB, MIB, MIB), GIB) == 0

    def test_three_quarters_are_enough_of_a_reason(self) -> None:
        assert growth_policy.wanted(course(75 * MIB), 10 * GIB) == FLOOR
        assert growth_policy.wanted(course(75 * GIB, total=100 * GIB), 1000 * GIB) == 50 * GIB
        assert growth_policy.wanted(course(74 * MIB), 10 * GIB) == 0

    def test_few_chunks_are_enough_of_a_reason(self) -> None:
        assert growth_policy.wanted(course(8 * MIB, total=16 * MIB), GIB) == 0
        assert growth_policy.wanted(course(8 * MIB, total=16 * MIB), GIB, 512 << 10) > 0

    def test_a_fast_one_grows_long_before(self) -> None:
        assert growth_policy.wanted(course(0, 40 * MIB), 100 * GIB) == 40 * MIB * growth_policy.AHEAD

    def test_a_burst_within_what_past_runs_needed_is_no_surprise(self) -> None:
        assert growth_policy.wanted(course(0, 60 * MIB), 10 * GIB, measured=True) == 0
        assert growth_policy.wanted(course(0, 75 * MIB), 10 * GIB, measured=True) > 0

    def test_never_more_than_can_be_used(self) -> None:
        assert growth_policy.wanted(course(80 * MIB), 110 * MIB) == 10 * MIB
        assert growth_policy.wanted(course(100 * MIB), 100 * MIB) == 0


class TestAllowed:
    def test_whole_extents_rounded_up(self) -> None:
        assert growth_policy.allowed(5 * MIB, 4 * MIB, GIB, 0, 1) == 8 * MIB

    def test_the_reserve_is_kept(self) -> None:
        assert growth_policy.allowed(GIB, 4 * MIB, 110 * MIB, 100 * MIB, 1) == 8 * MIB
        assert growth_policy.allowed(GIB, 4 * MIB, 103 * MIB, 100 * MIB, 1) == 0
        assert growth_policy.allowed(GIB, 4 * MIB, 50 * MIB, 100 * MIB, 1) == 0

    def test_several_leave_each_other_half(self) -> None:
        assert growth_policy.allowed(GIB, MIB, 100 * MIB, 0, 2) == 50 * MIB
        assert growth_policy.allowed(GIB, MIB, MIB, 0, 3) == MIB

    @given(st.integers(1, 1 << 40), st.sampled_from([MIB, 4 * MIB]), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
    def test_the_group_always_keeps_its_reserve(self, want: int, extent: int, free: int, reserve: int) -> None:
        more = growth_policy.allowed(want, extent, free, reserve, 1)
        assert more % extent == 0
        assert more == 0 or free - more >= reserve

    def test_reserve(self) -> None:
        assert growth_policy.reserved(Size("free", 10), 10 * GIB) == GIB
        assert growth_policy.reserved(Size("bytes", 5), 10 * GIB) == 5
        assert growth_policy.reserved(Size("bytes", 0), 10 * GIB) == 0


class TestPool:
    @pytest.mark.parametrize("may_grow", [True, False])
    def test_nearly_full(self, may_grow: bool) -> None:
        assert growth_policy.pool_is_full(course(97, total=100), may_grow=may_grow)
        assert not growth_policy.pool_is_full(course(96, total=100), may_grow=may_grow)

    def test_full_soon(self) -> None:
        fast = course(*range(0, 44, 4), total=100)
        assert growth_policy.pool_is_full(fast, may_grow=False)
        assert not growth_policy.pool_is_full(fast, may_grow=True)
        assert not growth_policy.pool_is_full(course(*range(0, 33, 3), total=100), may_grow=False)

    def test_a_burst_alone_is_no_reason(self) -> None:
        assert not growth_policy.pool_is_full(course(60, 72, total=100), may_grow=False)
        assert growth_policy.pool_is_full(course(60, 80, total=100), may_grow=False)

    def test_it_grows_before_it_ends_the_backup(self) -> None:
        assert growth_policy.pool_must_grow(course(*range(0, 33, 3), total=100))
        assert growth_policy.pool_must_grow(course(90, total=100))
        assert not growth_policy.pool_must_grow(course(89, total=100))


class TestPause:
    def test_a_large_calm_one_is_looked_at_each_second(self) -> None:
        assert growth_policy.pause([course(0, 0, total=GIB)], [course(0, 0, total=1000)]) == 1
        assert growth_policy.pause([], []) == 1

    @pytest.mark.parametrize("fast", [course(0, 50 * MIB), course(99 * MIB)])
    def test_one_that_could_be_full_soon_is_looked_at_sooner(self, fast: FillHistory) -> None:
        assert growth_policy.pause([fast], []) == growth_policy.SHORTEST

    def test_a_pool_that_fills_too(self) -> None:
        assert growth_policy.pause([], [course(0, 20, total=100)]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (7200, "2.0 h")]
)
def test_duration(seconds: float, text: str) -> None:
    assert growth_policy.duration(seconds) == text


def test_until_full() -> None:
    assert growth_policy.until_full(course(0, MIB)) == "at this speed it is full in 99 s"
    assert growth_policy.until_full(course(MIB, MIB)) == "it is not filling now"


def curve(*looks: Sample) -> tuple[Sample, ...]:
    kept = Curve()
    for look in looks:
        kept.add(look)
    return kept.with_last(looks[-1])


def test_a_curve_that_is_level_needs_two_looks() -> None:
    assert curve(*(Sample(n, 5, 9) for n in range(1000))) == (Sample(0, 5, 9), Sample(999, 5, 9))


def test_a_curve_keeps_few_looks_over_the_whole_time_and_the_last() -> None:
    looks = [Sample(n / 10, n, 99999) for n in range(10_000)]
    kept = curve(*looks)
    assert 20 <= len(kept) <= 61
    assert (kept[0], kept[-1]) == (looks[0], looks[-1])
    steps = [later.time - earlier.time for earlier, later in pairwise(kept)]
    assert max(steps) <= 6 * 1000 / len(kept)


def test_a_curve_shows_where_the_snapshot_grew() -> None:
    kept = curve(
        Sample(0, 1, 9), Sample(1, 1, 9), Sample(2, 1, 9), Sample(3, 1, 18), Sample(4, 1, 18), Sample(5, 1, 18)
    )
    assert kept == (Sample(0, 1, 9), Sample(2, 1, 9), Sample(3, 1, 18), Sample(5, 1, 18))


def test_no_look_no_curve() -> None:
    assert Curve().with_last(Sample(1, 1, 1)) == ()
