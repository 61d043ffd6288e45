"""Another attempt follows when somebody was busy, and only then; in between nothing is held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from borg_lvm.errors import BorgLvmError, BusyError, InterruptedRunError, QuiesceError
from borg_lvm.linux.signals import Signals
from borg_lvm.log import Log
from borg_lvm.quiesce.retry import Attempts


class Work:
    """Work that fails as told before it succeeds, and the duty to release what it makes."""

    def __init__(self, *failures: BorgLvmError) -> None:
        self.failures = list(failures)
        self.seen: list[str] = []
        self.leftovers: list[str] = []

    @contextmanager
    def duty(self) -> Iterator[list[str]]:
        self.seen.append("held")
        complete = False
        told: list[str] = []
        try:
            yield told
            complete = True
        finally:
            self.seen.append("released" if complete else "dropped")
            told += self.leftovers

    def work(self) -> str:
        self.seen.append("works")
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def attempts(most: int, pause: float = 0.0) -> Attempts:
    return Attempts(most, pause, Signals(), Log(quiet=True))


def test_one_that_was_busy_is_tried_again_and_the_last_duty_is_held() -> None:
    work = Work(BusyError("busy"), BusyError("busy"))
    with attempts(3).kept(work.duty, work.work) as answer:
        assert answer == "done"
        assert work.seen == [*2 * ["held", "works", "dropped"], "held", "works"]
    assert work.seen[-1] == "released"


def test_a_failure_while_the_duty_is_held_drops() -> None:
    work = Work()
    with pytest.raises(ZeroDivisionError), attempts(3).kept(work.duty, work.work):
        raise ZeroDivisionError
    assert work.seen == ["held", "works", "dropped"]


def test_a_busy_one_while_the_duty_is_held_is_no_attempt() -> None:
    work = Work()
    with pytest.raises(BusyError), attempts(3).kept(work.duty, work.work):
        raise BusyError("later")
    assert work.seen == ["held", "works", "dropped"]


def test_it_is_given_up_after_the_last_attempt() -> None:
    work = Work(*(BusyError(f"busy {number}", details=("why",)) for number in range(5)))
    with pytest.raises(BusyError, match="busy 2") as caught, attempts(3).kept(work.duty, work.work):
        pass
    assert caught.value.details == ("why", "given up after 3 attempts")
    assert work.seen.count("works") == 3


def test_a_single_attempt_speaks_of_no_attempts() -> None:
    work = Work(BusyError("busy"))
    with pytest.raises(BusyError) as caught, attempts(1).kept(work.duty, work.work):
        pass
    assert caught.value.details == ()


@pytest.mark.parametrize("left", [False, True])
def test_other_failures_and_what_could_not_be_released_end_it(left: bool) -> None:
    work = Work(BusyError("busy") if left else QuiesceError("no right"))
    work.leftovers = ["snapshot vg/x"] if left else []
    with pytest.raises(QuiesceError), attempts(3).kept(work.duty, work.work):
        pass
    assert work.seen == ["held", "works", "dropped"]


def test_a_signal_ends_the_pause() -> None:
    work, tries = Work(BusyError("busy")), attempts(3, pause=3600)
    tries.signals.caught.append(15)
    with pytest.raises(InterruptedRunError), tries.kept(work.duty, work.work):
        pass
    assert work.seen == ["held", "works", "dropped"]


def test_whether_another_may_follow_is_known_at_each() -> None:
    tries, seen = attempts(3), list[bool]()
    work = Work(BusyError("1"), BusyError("2"))

    def look() -> str:
        seen.append(tries.another)
        return work.work()

    with tries.kept(work.duty, look):
        assert seen == [True, True, False]
