"""Which times of day a command has seen while the clock was set: what it has saved is found by them."""

from __future__ import annotations

import pytest

from borg_lvm.plugins.backup_command import Span
from borg_lvm.snapshots.monitor import Moment, TimesShown

BEGAN, NOON = 500.0, 1_800_000_000.0
HOUR = 3600.0


def shown(*steps: tuple[float, float]) -> Span:
    """Return what was shown when the clock was looked at after so many seconds, so far from the time that was right."""
    times = TimesShown(Moment(NOON, BEGAN))
    for seconds, off in steps:
        times.note(Moment(NOON + seconds + off, BEGAN + seconds))
    return times.span()


def test_a_clock_that_is_not_set_shows_one_stretch_and_may_be_slewed() -> None:
    assert shown((1, 0), (2, 0.01), (3, 0.02)) == Span(NOON, NOON + 3.02)


@pytest.mark.parametrize("off", [HOUR, -HOUR])
def test_where_it_was_set_another_stretch_begins(off: float) -> None:
    span = shown((60, 0), (61, off), (100, off))
    assert span == Span(NOON, NOON + 61, ((NOON + 60 + off, NOON + 100 + off),))
    for moment in (
        0,
        60.5,
        60.5 + off,
        100 + off,
    ):  # it may have been set right after the one look, or before the other
        assert span.has(NOON + moment)
    for moment in (-1, 62, 59 + off, 101 + off):
        assert not span.has(NOON + moment)
    assert span.has(NOON - 1, tolerance=1)
    assert [span.is_earlier(NOON + moment) for moment in (60, 60 + off)] == [False, off < 0]


def test_it_may_be_set_and_set_right_again() -> None:
    span = shown((60, HOUR), (120, 0))
    assert [span.has(NOON + moment) for moment in (30, HOUR + 60, HOUR - 1, 90)] == [True, True, False, True]


def test_a_machine_that_slept_shows_what_it_sees_when_it_wakes() -> None:
    """The machine's own clock (CLOCK_MONOTONIC) stands still meanwhile."""
    assert shown((60, 0), (60.5, 8 * HOUR)).has(NOON + 60 + 8 * HOUR)
