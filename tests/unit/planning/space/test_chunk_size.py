"""Which chunks a snapshot gets: recorded counters of six machines, what past runs say, and when space is short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm.config import Size
from borg_lvm.planning.snapshot_size import Sizing, allot, most
from borg_lvm.planning.space import chunk_size
from borg_lvm.planning.space.chunk_size import AUTO, SIZES, Chunk, Pattern, Writes, as_if, at_worst, auto, copied
from borg_lvm.planning.space.usage_estimate import Once
from tests.unit.data.machine import GIB, KIB, MIB, VOLUME

NIGHT = 3600.0


def night(used: int, written: int, mean: float, chunk: int = 4 * KIB) -> Once:
    """A run in which so much was written, in requests of this mean size, and so much of the snapshot was used."""
    return Once(NIGHT, used, 4 * used, written=written, chunk=chunk, count=int(written / mean))


def writes(stat: str) -> Writes:
    """The writes of a line of /sys/block/dm-N/stat."""
    fields = stat.split()
    return Writes(int(fields[4]), int(fields[6]) * 512)


@dataclass(frozen=True)
class Machine:
    """A volume as it was recorded: `stat` of its device, its size and past, what is free in its group."""

    stat: str
    size: int
    free: int
    past: Sequence[Once] = ()
    rotational: bool = False


SUITS = "auto: it suits how the volume is written"
MACHINES = {
    # PostgreSQL, checkpoints of 8 KiB pages all over 400 GiB, its log in writes of 8 to 64 KiB.
    "a database on NVMe": (
        Machine(
            "918273645 0 29384756320 81726354 612839475 0 13972740030 93847561 0 71625344 175573915",
            400 * GIB,
            300 * GIB,
            [night(9 * GIB, 14 * GIB, 4 * KIB)] * 3,
        ),
        "16 KiB",
        SUITS,
        (11, 0.64, 1.7, 3.1),
    ),
    "a file server, files of hundreds of MiB": (
        Machine(
            "8273645 0 2938475632 81726354 5128394 0 8403091456 93847561 0 71625344 175573915",
            8192 * GIB,
            2048 * GIB,
            [night(120 * GIB, 118 * GIB, 4 * KIB), night(121 * GIB, 119 * GIB, 31 * KIB, 32 * KIB)],
            rotational=True,
        ),
        "256 KiB",
        SUITS,
        (819, 1.0, 1.3, 0.0),
    ),
    "a mail server, one file a message": (
        Machine(
            "182736450 0 5938475632 81726354 48283947 0 1641654198 93847561 0 71625344 175573915",
            900 * GIB,
            200 * GIB,
            [night(2 * GIB, 3 * GIB, 4 * KIB, 4 * KIB), night(3 * GIB, 3 * GIB, 7 * KIB, 8 * KIB)],
            rotational=True,
        ),
        "32 KiB",
        SUITS,
        (17, 1.0, 2.4, 4.3),
    ),
    # Lines appended all day, each synced: small, but one after the other, which the last run has shown.
    "a log host": (
        Machine(
            "1827364 0 59384756 817263 61728394 0 987654304 93847561 0 71625344 175573915",
            200 * GIB,
            100 * GIB,
            [
                night(5 * GIB, 5 * GIB, 4 * KIB, 4 * KIB),
                night(5 * GIB, 5 * GIB, 7.9 * KIB, 8 * KIB),
                night(int(5.1 * GIB), 5 * GIB, 7.9 * KIB, 16 * KIB),
            ],
        ),
        "32 KiB",
        SUITS,
        (8, 1.0, 2.0, 4.1),
    ),
    "an idle system disk": (
        Machine(
            "53829 0 4938476 81726 412839 0 12384756 93847 0 71625 175573",
            30 * GIB,
            80 * GIB,
            [night(3 * MIB, 2 * MIB, 4 * KIB)] * 5,
        ),
        "16 KiB",
        SUITS,
        (15, 0.0, 1.8, 2.9),
    ),
    # Guests flush what they have gathered: large on average, yet a hot part is written again and again.
    "a host of virtual machines' images": (
        Machine(
            "918273645 0 59384756320 81726354 83728394 0 9123456789 93847561 0 71625344 175573915",
            2048 * GIB,
            900 * GIB,
            [night(6 * GIB, 48 * GIB, 4 * KIB, 4 * KIB)] * 2,
        ),
        "64 KiB",
        SUITS,
        (54, 0.125, 1.2, 2.4),
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_six_machines(name: str) -> None:
    machine, size, why, (mean, past_copied, copied, larger) = MACHINES[name]
    volume = replace(VOLUME, size=machine.size, vg_free=machine.free)
    known = Sizing(
        past={volume.uuid: machine.past},
        writes={volume.uuid: writes(machine.stat)},
        rotational=frozenset([volume.uuid] if machine.rotational else []),
    )
    shares, problems = allot([volume], Size(), known)
    chunk = shares[volume.uuid].chunk
    assert problems == []
    assert (f"{chunk.size // KIB} KiB", chunk.best, chunk.why) == (size, chunk.size, why)
    numbers = chunk.reckoning
    assert numbers
    assert round(numbers.mean / KIB) == mean
    assert (numbers.past_copied, numbers.copied, numbers.copied_larger) == pytest.approx(
        (past_copied, copied, larger), rel=0.05
    )


LARGE, SMALL = Writes(10_000, 10_000 * 800 * KIB), Writes(1_000_000, 1_000_000 * 4 * KIB)


class TestPattern:
    """How a volume is written decides, as far as it is known."""

    def chosen(self, *past: Once, writes: Writes = LARGE, size: int = 100 * GIB) -> int:
        return auto(Pattern(size, past, writes)).size

    def test_nothing_is_known(self) -> None:
        few = Writes(chunk_size.KNOWN - 1, MIB)
        assert auto(Pattern(GIB)) == auto(Pattern(GIB, (), few))
        assert auto(Pattern(GIB)).size == 4 * KIB

    def test_large_writes_have_large_chunks_and_small_ones_small_ones(self) -> None:
        assert self.chosen() == 256 * KIB
        assert self.chosen(writes=Writes(100, 64 * MIB)) == 256 * KIB
        assert self.chosen(writes=SMALL) == 8 * KIB
        assert self.chosen(writes=Writes(1_000_000, 512 * 1_000_000)) == 4 * KIB

    def test_what_a_run_has_shown_is_better_than_the_mean(self) -> None:
        assert self.chosen(night(64 * GIB, GIB, 4 * KIB, 256 * KIB)) == 8 * KIB
        assert self.chosen(night(2 * GIB, GIB, 4 * KIB, 8 * KIB)) == 8 * KIB

    def test_a_run_that_was_idle_shows_nothing(self) -> None:
        assert self.chosen(night(MIB, chunk_size.EVIDENCE - 1, 4 * KIB), writes=SMALL) == 8 * KIB

    def test_a_hot_spot_may_have_larger_ones(self) -> None:
        """Up to a tenth of the volume at once, beyond that only twice what was used."""
        spot = night(GIB, 20 * GIB, 4 * KIB)
        assert self.chosen(spot, writes=SMALL) == 32 * KIB
        assert self.chosen(spot, writes=SMALL, size=15 * GIB) == 8 * KIB

    def test_a_later_run_with_larger_ones_knows_better_than_an_earlier_one(self) -> None:
        first, second = night(GIB, GIB, 4 * KIB), night(GIB, GIB, 8 * KIB, 8 * KIB)
        assert self.chosen(first, writes=SMALL) == 8 * KIB
        assert self.chosen(first, second, writes=SMALL) == 16 * KIB
        assert self.chosen(second, first, writes=SMALL) == 8 * KIB

    def test_a_run_with_few_writes_says_little_of_one_with_many(self) -> None:
        many, few = night(GIB, GIB, 4 * KIB), night(100 * MIB, 100 * MIB, 8 * KIB, 8 * KIB)
        assert self.chosen(many, few, writes=SMALL) == 8 * KIB

    def test_a_rotating_disk_bears_more(self) -> None:
        of_20 = Writes(1_000_000, 1_000_000 * 20 * KIB)
        assert auto(Pattern(GIB, (), of_20)).size == 16 * KIB
        assert auto(Pattern(GIB, (), of_20, rotational=True)).size == 32 * KIB

    def test_writes_all_over_never_come_to_large_ones(self) -> None:
        """Night after night: what was copied is what each of the chunks that was chosen copies."""
        past: list[Once] = []
        for _ in range(30):
            chunk = self.chosen(*past, writes=SMALL)
            assert chunk <= 8 * KIB
            past.append(night(GIB // (4 * KIB) * chunk + 10 * MIB, GIB, 4 * KIB, chunk))

    def test_a_log_comes_to_large_ones_night_by_night(self) -> None:
        """One block after the other, so that it uses no more with larger ones: each run shows that of twice its own."""
        past: list[Once] = []
        for _ in range(7):
            past.append(night(GIB + 10 * MIB, GIB, 4 * KIB, self.chosen(*past, writes=SMALL)))  # and its tables
        assert [one.chunk // KIB for one in past] == [8, 16, 32, 64, 128, 256, 256]


RUNS = st.lists(
    st.builds(
        lambda chunks, chunk, often, part, seconds: Once(
            seconds, chunks * chunk, 4 * chunks * chunk, False, chunks * chunk // often, chunk, int(chunks * part)
        ),
        st.integers(1, 1 << 20),
        st.sampled_from(SIZES),
        st.integers(1, 64),
        st.floats(1, 8),
        st.floats(1, 1e5),
    ),
    max_size=8,
)
WRITES = st.builds(lambda count, mean: Writes(count, count * mean), st.integers(0, 1 << 30), st.integers(512, 2 * MIB))


@given(RUNS, WRITES, st.booleans(), st.integers(1, 1 << 45))
def test_no_chunk_copies_more_than_its_limit(past: list[Once], known: Writes, rotational: bool, size: int) -> None:
    pattern = Pattern(size, past, known, rotational)
    chosen = auto(pattern)
    assert chosen.size in AUTO
    assert chosen.why.startswith("auto: ")
    if chosen.size > 4 * KIB:
        often = copied(pattern, chosen.size)
        assert often is not None
        assert often <= pattern.limit
    assert auto(pattern, 16 * KIB).size == chosen.size or chosen.size > 16 * KIB


@given(RUNS, WRITES)
def test_larger_chunks_never_need_less(past: list[Once], known: Writes) -> None:
    pattern = Pattern(GIB, past, known)
    worst = [at_worst(pattern, chunk) for chunk in SIZES]
    assert worst == sorted(worst)
    for chunk in SIZES:
        for one, other in zip(past[-5:], as_if(pattern, chunk), strict=True):
            assert chunk < one.chunk or other.needed >= one.needed
            assert other.needed <= max(one.needed, one.needed * chunk // one.chunk)


@given(RUNS, WRITES)
def test_at_worst_a_run_needs_what_it_has_needed(past: list[Once], known: Writes) -> None:
    """With its own chunks, that is; with larger ones each of them becomes a larger one."""
    for one in past:
        pattern = Pattern(GIB, [one], known)
        assert at_worst(pattern, one.chunk) == one.needed
        assert at_worst(pattern, 2 * one.chunk) == 2 * one.needed
    assert at_worst(Pattern(GIB, [], known), 4 * KIB) == 0


def test_larger_ones_are_announced_where_only_the_next_run_can_show_that_they_are_good() -> None:
    """One night was written all over, the other in one place: with larger chunks it might be copied as often."""
    nights = [night(5 * GIB, 5 * GIB, 4 * KIB, 4 * KIB), night(1 * GIB, 5 * GIB, 4 * KIB, 4 * KIB)]
    first = auto(Pattern(20 * GIB, nights, LARGE))
    assert first.size == 8 * KIB
    assert first.why == f"{SUITS}; the next runs may take larger ones"


class TestSpace:
    """Space is never shorter for a larger chunk: it is part of the estimate, and where it is short the chunk is not."""

    SEQUENTIAL = night(10 * GIB, 10 * GIB, 4 * KIB)

    def share(self, free: int, *past: Once, size: str = "auto", **known: object) -> tuple[Chunk, int]:
        volume = replace(VOLUME, size=100 * GIB, vg_free=free)
        more = Sizing(past={volume.uuid: past}, writes={volume.uuid: LARGE}, **known)  # type: ignore[arg-type]
        shares, problems = allot([volume], Size.parse(size), more)
        assert problems == []
        return shares[volume.uuid].chunk, shares[volume.uuid].size

    def test_where_all_fits_it_is_as_large_as_is_good(self) -> None:
        chunk, size = self.share(200 * GIB, self.SEQUENTIAL)
        assert chunk.size == 256 * KIB
        assert size >= 1.5 * 13 * GIB

    def test_where_it_might_not_fit_it_is_smaller(self) -> None:
        """Had all been written all over, 32 KiB would have needed 80 GiB; where all can be copied, nothing matters."""
        assert self.share(110 * GIB, self.SEQUENTIAL)[0].size == 256 * KIB
        assert self.share(90 * GIB, self.SEQUENTIAL)[0].size == 16 * KIB
        assert self.share(30 * GIB, self.SEQUENTIAL)[0].size == 8 * KIB
        chunk, size = self.share(20 * GIB, self.SEQUENTIAL)
        assert (chunk.size, size) == (4 * KIB, 15 * GIB)
        assert chunk.why == "auto: 256 KiB would suit better, but there is too little space"
        assert chunk.best == 256 * KIB

    def test_all_volumes_of_a_group_might_not_fit(self) -> None:
        """As above, with 10 GiB written to each of two: together they would have needed 160 GiB with 32 KiB."""
        members = [replace(VOLUME, size=100 * GIB, uuid=uuid, name=uuid) for uuid in "ab"]
        known = Sizing(past=dict.fromkeys("ab", (self.SEQUENTIAL,)), writes=dict.fromkeys("ab", LARGE))
        for free, chunk in ((220 * GIB, 256), (180 * GIB, 16), (60 * GIB, 8)):
            shares, _ = allot([replace(one, vg_free=free) for one in members], Size.parse("auto"), known)
            assert {one.chunk.size for one in shares.values()} == {chunk * KIB}

    def test_the_size_is_what_it_is_without_chunks_of_its_own_where_space_is_short(self) -> None:
        for free in (6 * GIB, 10 * GIB, 17 * GIB):
            assert self.share(free, self.SEQUENTIAL) == (
                self.share(free, self.SEQUENTIAL)[0],
                self.share(free, self.SEQUENTIAL, chunk=4 * KIB)[1],
            )

    def test_a_size_that_was_asked_for_is_not_exceeded(self) -> None:
        assert self.share(200 * GIB, size="12G")[0].size == 4 * KIB
        assert self.share(200 * GIB, self.SEQUENTIAL, size="12G")[0].size == 4 * KIB
        assert self.share(200 * GIB, self.SEQUENTIAL, size="45G")[0].size == 16 * KIB

    def test_a_maximum_is_not_exceeded(self) -> None:
        assert self.share(200 * GIB, self.SEQUENTIAL, maximum=Size.parse("45G"))[0].size == 16 * KIB

    def test_a_chunk_that_was_asked_for_is_that_and_needs_its_space(self) -> None:
        chunk, size = self.share(
            200 * GIB, night(2 * GIB, GIB, 4 * KIB, 8 * KIB), chunk=16 * KIB, chunks={"vg0/other": 4 * KIB}
        )
        assert (chunk, size) == (Chunk(16 * KIB, "16KiB"), 6 * GIB)
        assert self.share(GIB, chunks={"vg0/home": 64 * KIB}, size="1G")[0].size == 64 * KIB

    def test_the_space_of_all_chunks_and_their_table_is_enough(self) -> None:
        for chunk in SIZES:
            volume = replace(VOLUME, size=10 * MIB, extent=4 * KIB)
            count = -(-volume.size // chunk)
            tables = -(-count // (chunk // 16))
            assert most(volume, chunk) >= (count + tables + 2) * chunk
