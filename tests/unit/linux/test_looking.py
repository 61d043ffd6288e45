"""Asking about processes that may never answer: the others are still asked about, and nothing waits."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.linux import looking, processes
from borg_lvm.linux.looking import Answers, answers
from borg_lvm.linux.processes import Process
from borg_lvm.log import Log

pytestmark = pytest.mark.process
HANGS, FAILS, DIES = 3, 4, 5


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "PATIENCE", 0.2)


def asked(number: int) -> bool:
    if number == HANGS:
        time.sleep(100)
    if number == FAILS:
        raise OSError
    if number == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    return number % 2 == 0


def test_each_is_asked_about() -> None:
    assert answers(asked, [0, 1, 2, 6]) == Answers([0, 2, 6], [])
    assert answers(asked, []) == Answers([], [])


@pytest.mark.parametrize("numbers", [[0, HANGS, 2], [HANGS, 0, 2], [0, 2, HANGS], [0, HANGS, FAILS, 2]])
def test_who_hangs_is_skipped(numbers: list[int]) -> None:
    assert answers(asked, numbers, 0.2) == Answers([0, 2], [HANGS])


def test_what_cannot_be_asked_about_is_a_no_and_what_kills_the_child_is_silent() -> None:
    assert answers(asked, [0, FAILS, DIES, 2]) == Answers([0, 2], [DIES])


def test_thousands_that_hang_do_not_hold_up_what_comes_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each after the first few gets less time. How much a busy machine needs is not what is tested here."""
    assert looking.MOST * looking.PATIENCE + 1000 * looking.LITTLE < looking.ALTOGETHER
    monkeypatch.setattr(looking, "MOST", 1)
    monkeypatch.setattr(looking, "LITTLE", 2.0)
    given: list[float] = []
    ask = looking._asked

    def recorded(*arguments: Any) -> int:
        given.append(arguments[-1])
        return ask(*arguments)

    monkeypatch.setattr(looking, "_asked", recorded)
    assert answers(asked, [HANGS, HANGS, 2], 3.0) == Answers([2], [HANGS, HANGS])
    assert given == [3.0, 2.0, 2.0]


def test_in_the_end_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "ALTOGETHER", 0.1)
    assert answers(asked, [0, HANGS, 2, 6], 0.2) == Answers([0], [HANGS, 2, 6])


def test_the_child_has_nothing_of_ours() -> None:
    """One that cannot be killed must hold no lock, and nobody's standard error."""
    ours = os.open("/dev/null", os.O_RDONLY)
    try:
        there: Callable[[int], bool] = lambda fd: bool(os.fstat(fd))  # noqa: E731
        assert answers(there, [0, 1, 2, ours]).yes in ([], [0])  # 0 may be the pipe's, or that of a list of files
    finally:
        os.close(ours)


def test_who_is_silent_is_told_once(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """And is asked about after all others from then on."""
    crowd = [Process(number, number, f"p{number}") for number in (HANGS, 2, 6)]
    order: list[list[int]] = []

    def answered(asks: Callable[[int], bool], numbers: list[int]) -> Answers:
        order.append(numbers)
        return Answers([], [HANGS])

    monkeypatch.setattr(processes, "_SILENT", {})
    monkeypatch.setattr(processes, "find", lambda among: list(crowd))
    monkeypatch.setattr(processes, "start_time", lambda pid: pid)
    monkeypatch.setattr(looking, "answers", answered)
    for _ in range(2):
        processes.end(lambda: processes.holders(frozenset({1})), Log(), "why")
    assert order == [[HANGS, 2, 6], [2, 6, HANGS]]
    assert capfd.readouterr().err.count("p3 (3)") == 1


def some(end: Callable[[], object]) -> Iterator[object]:
    yield Process(1, 2, "x" * 1_000_000)
    yield {"a": None}
    yield end()


@pytest.mark.parametrize("end", [lambda: time.sleep(100), lambda: 1 / 0, lambda: os._exit(0), threading.Lock])
def test_what_was_told_before_somebody_hangs_or_fails(end: Callable[[], object]) -> None:
    told = looking.yielded(lambda: some(end), 2)
    assert told == [Process(1, 2, "x" * 1_000_000), {"a": None}]


def test_no_more_is_read_than_anybody_has_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "MOST_YIELDED", 1000)
    assert looking.yielded(lambda: some(list), 20) == []


def test_who_tells_has_nothing_of_ours_open(tmp_path: Path) -> None:
    with (tmp_path / "ours").open("w") as ours:
        told = looking.yielded(lambda: (os.readlink(f"/proc/self/fd/{number}") for number in range(3)), 20)
        assert told == ["/dev/null"] * 3
        assert looking.yielded(lambda: [os.path.exists(f"/proc/self/fd/{ours.fileno()}")], 20) == [False]
