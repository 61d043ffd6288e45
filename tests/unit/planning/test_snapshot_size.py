"""How much room each snapshot gets, and when there is not enough."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_lvm.config import Size
from borg_lvm.machine.lvm import Volume
from borg_lvm.planning.snapshot_size import AUTO_LEAST, FLOOR, Sizing, allot, human, limit
from borg_lvm.planning.space.usage_estimate import Once
from tests.unit.data.machine import GIB, MIB, VOLUME


def volume(name: str, size: int, free: int = 100 * GIB, extent: int = 4 * MIB, vg: str = "vg0") -> Volume:
    return replace(VOLUME, name=name, uuid=name, size=size, vg_free=free, extent=extent, vg=vg, vg_uuid=vg)


def sizes(*volumes: Volume, size: str = "auto") -> dict[str, int]:
    shares, problems = allot(volumes, Size.parse(size))
    assert problems == []
    return {name: share.size for name, share in shares.items()}


def problem(*volumes: Volume, size: str = "auto") -> str:
    (words,) = allot(volumes, Size.parse(size))[1]
    return words


def test_a_fifth_where_there_is_room() -> None:
    assert sizes(volume("a", 10 * GIB), volume("b", 20 * GIB)) == {"a": 2 * GIB, "b": 4 * GIB}


def test_rounded_up_to_whole_extents() -> None:
    shares, _ = allot([volume("a", 501 * 32 * MIB, extent=32 * MIB)], Size())
    assert (shares["a"].extents, shares["a"].size) == (101, 101 * 32 * MIB)


def test_nothing_to_share() -> None:
    assert allot([], Size()) == ({}, [])


def test_a_tiny_volume_gets_what_it_can_use_at_most() -> None:
    assert sizes(volume("a", 4 * MIB)) == {"a": 16 * MIB}  # the volume, a table, two extents: rounded up
    assert sizes(volume("a", 40 * MIB)) == {"a": 52 * MIB}


def test_a_tight_group_shares_four_fifths_of_what_is_free() -> None:
    shares = sizes(volume("a", 100 * GIB, free=20 * GIB), volume("b", 50 * GIB, free=20 * GIB))
    assert 16 * GIB - 2 * 4 * MIB < sum(shares.values()) <= 16 * GIB
    assert shares["a"] > shares["b"] >= 50 * GIB // 20


def test_a_small_volume_beside_a_large_one_keeps_its_least() -> None:
    shares = sizes(volume("large", 100 * GIB, free=8 * GIB), volume("small", 100 * MIB, free=8 * GIB))
    assert shares["small"] >= AUTO_LEAST
    assert shares["large"] >= 5 * GIB


def test_extents_so_large_that_rounding_up_would_not_fit() -> None:
    volumes = [volume(name, 192 * MIB, free=6 * 32 * MIB, extent=32 * MIB) for name in "abcd"]
    assert sum(sizes(*volumes).values()) <= 6 * 32 * MIB


def test_the_least_may_take_the_last_fifth_of_what_is_free() -> None:
    assert sizes(volume("a", 180 * GIB, free=10 * GIB)) == {"a": 9 * GIB}


def test_what_auto_would_take_is_known_where_the_group_has_less() -> None:
    for free, wanted in ((50 * GIB, 0), (45 * GIB, 0), (44 * GIB, 36 * GIB)):
        shares, _ = allot([volume("a", 180 * GIB, free=free)], Size())
        assert shares["a"].wanted == wanted
        assert (shares["a"].size < 36 * GIB) == bool(wanted)
    shares, problems = allot([volume("a", GIB, free=52 * MIB)], Size())
    assert problems == []
    assert shares["a"].wanted == limit(volume("a", GIB), Sizing())
    assert allot([volume("a", 180 * GIB, free=20 * GIB)], Size.parse("10G"))[0]["a"].wanted == 0


def test_less_than_the_least_is_refused_with_numbers_that_help() -> None:
    words = problem(volume("a", 180 * GIB, free=8 * GIB))
    assert words.startswith("volume group vg0 has 8.0 GiB free; snapshots of a with size auto need at least 9.0 GiB, ")
    assert "1.0 GiB more" in words
    assert "vgextend" in words


def test_where_nothing_is_free_what_is_missing_is_told_once() -> None:
    words = problem(volume("a", 180 * GIB, free=0))
    assert "has 0 B free; snapshots of a with size auto need at least 9.0 GiB: add a disk" in words


def test_numbers_that_look_alike_are_told_apart() -> None:
    words = problem(volume("a", 10 * GIB, free=10 * GIB - 4 * MIB), size="10G")
    assert "has 10.0 GiB free" in words
    assert "4.0 MiB more" in words


def test_a_full_group() -> None:
    assert "has 0 B free" in problem(volume("a", 10 * GIB, free=0))


def test_each_group_has_its_own_room_and_its_own_problem() -> None:
    volumes = [volume("a", 180 * GIB, free=GIB), volume("b", 10 * GIB, vg="vg1"), volume("c", 1800 * GIB, vg="vg2")]
    shares, problems = allot([*volumes, volume("d", 900 * GIB, free=GIB, vg="vg3")], Size())
    assert shares["b"].size == 2 * GIB
    assert [words.split()[2] for words in problems] == ["vg0", "vg3"]


class TestFixed:
    def test_bytes(self) -> None:
        assert sizes(volume("a", 10 * GIB), size="1G") == {"a": GIB}
        assert sizes(volume("a", 10 * GIB), size="1B") == {"a": 4 * MIB}

    def test_part_of_the_origin(self) -> None:
        assert sizes(volume("a", 10 * GIB), volume("b", GIB), size="50%ORIGIN") == {"a": 5 * GIB, "b": 512 * MIB}

    def test_more_than_can_be_used_is_cut(self) -> None:
        shares, _ = allot([volume("a", GIB)], Size.parse("50G"))
        assert shares["a"].size == GIB + 16 * MIB + 8 * MIB
        assert shares["a"].why == "50GiB, cut to the most that can ever be used"

    def test_all_of_what_is_free_is_not_more_than_that(self) -> None:
        assert sizes(volume("a", 900 * GIB, free=7 * 4 * MIB), size="100%FREE") == {"a": 28 * MIB}
        halves = [volume(name, 900 * GIB, free=7 * 4 * MIB) for name in "ab"]
        assert sizes(*halves, size="50%FREE") == {"a": 12 * MIB, "b": 12 * MIB}

    def test_parts_that_are_more_than_the_whole(self) -> None:
        thirds = [volume(name, 900 * GIB, free=30 * GIB) for name in "abc"]
        assert "has 30.0 GiB free; snapshots of a, b, c with size 50%FREE need at least 45.0 GiB" in problem(
            *thirds, size="50%FREE"
        )

    def test_petabytes_stay_exact(self) -> None:
        size = (1 << 60) + 4 * MIB
        assert sizes(volume("a", size, free=2 << 60), size="100%ORIGIN") == {"a": size}


class TestKnown:
    """What else decides: the past, how busy it is, limits, sizes of certain volumes."""

    def shares(self, *volumes: Volume, size: str = "auto", **known: object) -> dict[str, int]:
        shares, problems = allot(volumes, Size.parse(size), Sizing(**known))  # type: ignore[arg-type]
        assert problems == []
        return {name: share.size for name, share in shares.items()}

    PAST: ClassVar = {"a": [Once(3600, 200 * MIB, GIB, written=GIB)] * 5}
    BUSY: ClassVar = {"a": [Once(3600, 2 * GIB, 4 * GIB, written=GIB)] * 5}

    def test_half_as_much_again_as_was_used(self) -> None:
        shares, _ = allot([volume("a", 100 * GIB)], Size(), Sizing(past=self.BUSY))
        assert (shares["a"].size, shares["a"].measured) == (3 * GIB, True)
        assert shares["a"].why == "auto: the fullest of the last 5 runs used 2.0 GiB"

    def test_quiet_nights_never_take_away_what_a_burst_needs(self) -> None:
        shares, _ = allot([volume("a", 100 * GIB)], Size(), Sizing(past=self.PAST, chunk=4096))
        assert (shares["a"].size, shares["a"].measured) == (FLOOR, False)
        assert shares["a"].why == "auto: 8 s of a burst at 256 MiB/s"
        shares, _ = allot([volume("a", GIB)], Size(), Sizing(past=self.PAST, chunk=4096))
        assert (shares["a"].size, shares["a"].why) == (
            limit(volume("a", GIB), Sizing()),
            "auto: all that it can ever use",
        )

    def test_all_is_taken_where_it_is_nearly_all_that_can_be_used(self) -> None:
        assert self.shares(volume("a", GIB, free=GIB), past=self.PAST) == {"a": GIB}
        assert self.shares(volume("a", GIB, free=900 * MIB), past=self.PAST) == {"a": 720 * MIB}

    def test_it_needs_no_twentieth_when_less_was_enough(self) -> None:
        assert self.shares(volume("a", 1000 * GIB, free=GIB), past=self.PAST) == {"a": 816 * MIB}

    def test_a_tight_group_still_gives_what_was_used(self) -> None:
        assert 200 * MIB <= self.shares(volume("a", 1000 * GIB, free=300 * MIB), past=self.PAST)["a"] <= 240 * MIB

    def test_it_is_never_stricter_than_without_a_past(self) -> None:
        past = {"a": [Once(60, 0, 50 * GIB, lost=True)]}
        assert self.shares(volume("a", 180 * GIB, free=10 * GIB), past=past) == {"a": 9 * GIB}

    def test_a_busy_volume_of_which_nothing_is_known(self) -> None:
        assert self.shares(volume("a", 10 * GIB), speeds={"a": MIB}) == {"a": 4 * GIB}
        assert self.shares(volume("a", 10 * GIB), speeds={"a": MIB / 2}) == {"a": 2 * GIB}

    def test_limits(self) -> None:
        assert self.shares(volume("a", 10 * GIB), minimum=Size.parse("3G")) == {"a": 3 * GIB}
        assert self.shares(volume("a", 10 * GIB), maximum=Size.parse("10%ORIGIN")) == {"a": GIB}
        assert limit(volume("a", 10 * GIB), Sizing(maximum=Size.parse("1G"))) == GIB
        assert limit(volume("a", GIB), Sizing()) == GIB + 16 * MIB + 8 * MIB

    def test_sizes_of_certain_volumes(self) -> None:
        one, other = volume("a", 10 * GIB), volume("b", 10 * GIB)
        assert self.shares(one, other, sizes={"vg0/b": Size.parse("5G")}) == {"a": 2 * GIB, "b": 5 * GIB}

    def test_a_fixed_one_is_served_before_the_others_share(self) -> None:
        one, other = volume("a", 100 * GIB, free=20 * GIB), volume("b", 100 * GIB, free=20 * GIB)
        assert self.shares(one, other, sizes={"vg0/b": Size.parse("10G")}) == {"a": 8 * GIB, "b": 10 * GIB}

    def test_part_of_what_is_used(self) -> None:
        assert self.shares(volume("a", 10 * GIB), size="150%USED", used={"a": 2 * GIB}) == {"a": 3 * GIB}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (99.94 * 1024, "99.9 KiB"),
        (100 * MIB, "100 MiB"),
        (1536 * MIB, "1.5 GiB"),
        (5000 * 1024 * GIB, "5000 TiB"),
    ],
)
def test_human(count: float, text: str) -> None:
    assert human(count) == text


EXTENTS = st.sampled_from([4096, MIB, 4 * MIB, 32 * MIB, GIB])
SIZES = st.sampled_from(
    ["auto", "1B", "300M", "5G", "1%ORIGIN", "33%ORIGIN", "100%ORIGIN", "1%FREE", "33%FREE", "100%FREE"]
)


@settings(deadline=None)
@given(EXTENTS, st.integers(0, 1 << 22), st.lists(st.integers(1, 1 << 20), min_size=1, max_size=8), SIZES)
def test_what_is_allotted_fits_or_is_a_problem(extent: int, free: int, counts: list[int], size: str) -> None:
    volumes = [
        volume(f"v{number}", count * extent, free=free * extent, extent=extent) for number, count in enumerate(counts)
    ]
    shares, problems = allot(volumes, Size.parse(size))
    needed = sum(share.size for share in shares.values())
    assert bool(problems) == (needed > free * extent)
    for one in volumes:
        share = shares[one.uuid]
        assert share.extents >= 1
        assert share.size == share.extents * extent
        most = one.size + one.size // 64 + 3 * extent
        assert share.size <= most
        if size == "auto":
            assert share.size >= min(most - 3 * extent, max(AUTO_LEAST, one.size * 5 // 100))


@settings(deadline=None)
@given(EXTENTS, st.lists(st.integers(1, 1 << 20), min_size=1, max_size=8))
def test_auto_is_refused_only_when_not_even_the_least_fits(extent: int, counts: list[int]) -> None:
    def with_free(free: int) -> list[str]:
        volumes = [volume(f"v{n}", count * extent, free=free, extent=extent) for n, count in enumerate(counts)]
        return allot(volumes, Size())[1]

    least = sum(share.size for share in allot(
        [volume(f"v{n}", count * extent, free=0, extent=extent) for n, count in enumerate(counts)], Size()
    )[0].values())  # fmt: skip
    assert with_free(least) == []
    assert with_free(least - extent) != []
