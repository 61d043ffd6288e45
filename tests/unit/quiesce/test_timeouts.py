"""A block that takes too long is interrupted, whatever it does; one that does not, is not."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import pytest

from borg_lvm.quiesce import timeouts


def test_what_is_quick_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with timeouts.at_most(5):
        time.sleep(0.3)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_hangs_is_interrupted_also_if_it_catches_every_exception() -> None:
    def hang() -> None:
        while True:
            with suppress(Exception):
                time.sleep(60)

    with pytest.raises(timeouts.OutOfTime), timeouts.at_most(0.2):
        hang()


def test_cleaning_up_is_not_interrupted_at_once() -> None:
    cleaned = []

    def work() -> None:
        try:
            time.sleep(60)
        finally:
            time.sleep(0.6)
            cleaned.append(True)

    with pytest.raises(timeouts.OutOfTime), timeouts.at_most(0.1):
        work()
    assert cleaned == [True]


def test_it_stops_when_it_is_told_to() -> None:
    start = time.monotonic()
    with pytest.raises(timeouts.OutOfTime), timeouts.at_most(60, stop=lambda: time.monotonic() > start + 0.3):
        time.sleep(60)


def test_a_blocked_alarm_is_heard_all_the_same() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        with pytest.raises(timeouts.OutOfTime), timeouts.at_most(0.2):
            time.sleep(60)
        assert signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
