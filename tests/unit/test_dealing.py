"""Each test of a kernel runs in exactly one of the guests that share them."""

from __future__ import annotations

from pathlib import Path

from tests.system.conftest import dealt

FILES = [
    Path(f"test_{name}.py") for name, count in (("a", 9), ("b", 1), ("c", 4), ("d", 4), ("e", 1)) for _ in range(count)
]


def test_each_file_is_dealt_to_one() -> None:
    hands = dealt(FILES, 3)
    assert sorted(file for hand in hands for file in hand) == sorted(set(FILES))


def test_the_hands_are_of_about_one_size() -> None:
    assert [sum(FILES.count(file) for file in hand) for hand in dealt(FILES, 2)] == [10, 9]


def test_more_hands_than_files_leave_some_empty() -> None:
    assert [len(hand) for hand in dealt(FILES[-1:], 3)] == [1, 0, 0]
