"""Which test runs where, in which guest, and what is said of it."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import pytest

from tests.lab.suite.choose import STAGES, Item, chosen, each_value
from tests.lab.suite.deal import SLOWER, Part, parts
from tests.lab.suite.guests import Guests
from tests.lab.suite.known import measured
from tests.lab.suite.progress import Progress, Result

KERNELS = ["uml-6.1", "uml-6.12", "6.12"]


def item(name: str, *marks: str) -> Item:
    return Item(f"tests/system/test_a.py::test_{name}", frozenset(marks))


ROWS = [item(f"row[{number}]", "some_kernel") for number in range(20)]
PLAIN, SOAK = item("plain"), item("soak", "soak")
PROMISE, EVERYWHERE = item("promise", "promise"), item("everywhere", "promise", "each_kernel")
SERIES, LONG = item("series", "promise", "each_series"), item("long", "promise", "soak")
ALL = [PLAIN, SOAK, PROMISE, EVERYWHERE, SERIES, LONG, *ROWS]


class TestChosen:
    def test_test_has_the_promises(self) -> None:
        assert chosen("test", KERNELS, ALL) == {
            "uml-6.1": [PROMISE, EVERYWHERE, SERIES],
            "uml-6.12": [EVERYWHERE, SERIES],
            "6.12": [EVERYWHERE],
        }

    def test_full_has_all_but_the_soak_once_and_rows_in_turns(self) -> None:
        full = chosen("full", KERNELS, ALL)
        assert not {SOAK, LONG} & set(itertools.chain(*full.values()))
        counted = Counter(itertools.chain(*full.values()))
        assert {counted[row] for row in ROWS} == {1}
        assert (counted[EVERYWHERE], counted[SERIES]) == (3, 2)
        assert counted[PLAIN] == 1
        assert full["uml-6.1"][0] == PLAIN
        assert not set(ROWS) & set(full["6.12"])

    @pytest.mark.parametrize("kernels", [KERNELS, KERNELS[:1]])
    def test_test_and_rest_are_full(self, kernels: list[str]) -> None:
        full, test, rest = (chosen(stage, kernels, ALL) for stage in ("full", "test", "rest"))
        for kernel in (kernel for kernel in kernels if kernel.startswith("uml")):
            assert sorted(test[kernel] + rest[kernel], key=str) == sorted(full[kernel], key=str)
            assert not set(test[kernel]) & set(rest[kernel])

    def test_rest_has_in_qemu_what_test_has_elsewhere_only(self) -> None:
        """`make test` starts no QEMU, so what its promises need two processors for was nowhere but in the soak."""
        assert chosen("rest", KERNELS, ALL)["6.12"] == [EVERYWHERE]

    def test_soak_has_everything_everywhere(self) -> None:
        assert chosen("soak", KERNELS, ALL) == dict.fromkeys(KERNELS, ALL)

    def test_no_stage_is_forgotten(self) -> None:
        assert all(chosen(stage, KERNELS, ALL)["uml-6.1"] for stage in STAGES)


class TestEachValue:
    @pytest.mark.parametrize("lengths", [(3, 2, 2), (2, 3), (2, 2), (4,)])
    def test_it_is_kept_once_at_least_and_few_rows_are(self, lengths: tuple[int, ...]) -> None:
        rows = [
            {str(name): [place] for name, place in enumerate(row)} for row in itertools.product(*map(range, lengths))
        ]
        kept = [row for row, keep in zip(rows, each_value(rows), strict=True) if keep]
        assert len(kept) == max(lengths)
        for name, length in enumerate(lengths):
            assert {row[str(name)][0] for row in kept} == set(range(length))


COUNTS = {"a": 9, "b": 1, "c": 4, "d": 4, "e": 1}
FILES = [Item(f"tests/system/test_{file}.py::test_{n}") for file, count in COUNTS.items() for n in range(count)]


class TestParts:
    def test_each_test_is_in_exactly_one(self) -> None:
        dealt = parts("uml-6.1", FILES, {}, 3)
        assert sorted(one.name for part in dealt for one in part.items) == sorted(one.name for one in FILES)

    def test_the_last_are_the_shortest(self) -> None:
        files = [Item(f"tests/system/test_{number}.py::test") for number in range(20)]
        assert [part.seconds for part in parts("uml-6.1", files, {}, 4)] == [40, 30, 20, 10]

    def test_a_short_file_stays_whole_and_a_long_one_does_not(self) -> None:
        dealt = parts("uml-6.1", FILES, {}, 4)
        of = {
            name: sum(any(one.file.endswith(f"_{name}.py") for one in part.items) for part in dealt) for name in "abcde"
        }
        assert of["a"] > 1
        assert (of["b"], of["c"], of["d"], of["e"]) == (1, 1, 1, 1)

    def test_what_is_known_counts(self) -> None:
        known = {one.name: 1.0 for one in FILES} | {FILES[9].name: 100.0}
        longest = parts("uml-6.1", FILES, known, 2)[0]
        assert FILES[9] in longest.items
        assert len(longest.items) == 1

    def test_there_is_no_empty_part(self) -> None:
        assert len(parts("uml-6.1", FILES[-1:], {}, 8)) == 1
        assert parts("uml-6.1", [], {}, 8) == []

    def test_emulated_processors_are_slower(self) -> None:
        (emulated,), (user_mode) = parts("6.12", FILES, {}, 1), parts("uml-6.12", FILES, {}, 1)
        assert emulated.seconds > user_mode[0].seconds


class Placed(Guests):
    """Guests that need a moment before they have their processor, or fail before they have it."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__(Progress({}), print, ())
        self.fails = fails
        self.seen: list[str] = []
        self._all = threading.Barrier(1 if fails else 3)

    def _one(self, part: Part, placed: threading.Event) -> None:
        if not part.kernel.startswith("uml"):
            threading.Event().wait(0.1)
            self.seen.append(part.kernel)
            placed.set()
            if self.fails:
                raise InterruptedError
            self._all.wait(10)
            return
        self.seen.append(part.kernel)
        threading.Event().wait(0.1 if self.fails else 0.0)
        self._all.wait(10)


class TestGuests:
    def test_who_needs_a_whole_processor_has_it_before_others_start(self) -> None:
        """They run together all the same. Once it came last, and left a place on each processor empty for minutes."""
        guests = Placed()
        guests.run([Part("6.12"), Part("uml-6.1"), Part("uml-6.12")], at_a_time=3)
        assert guests.seen[0] == "6.12"
        assert len(guests.seen) == 3

    def test_what_has_not_begun_does_not_after_an_error(self) -> None:
        guests = Placed(fails=True)
        with pytest.raises(InterruptedError):
            guests.run([Part("6.12"), *[Part("uml-6.1")] * 50], at_a_time=1)
        assert len(guests.seen) < 50


class TestMeasured:
    @pytest.mark.parametrize("turn", [1, -1])
    def test_what_was_measured_in_qemu_is_second_choice(self, turn: int) -> None:
        both = [Result("uml-6.1", "a", "passed", 10.0), Result("6.12", "a", "passed", 100.0)][::turn]
        alone = [Result("uml-6.1", "b", "skipped", 1.0), Result("6.12", "b", "passed", 100.0)][::turn]
        assert measured([*both, *alone]) == {"a": 10.0, "b": 100.0 / SLOWER["6.12"]}

    def test_what_has_not_passed_is_not_measured(self) -> None:
        assert measured([Result("uml-6.1", "a", "failed", 10.0)]) == {}


class TestProgress:
    def running(self) -> Progress:
        progress = Progress({("k", "a/test_1.py::t[x]"): 10.0, ("k", "a/test_2.py::u"): 30.0, ("l", "v"): 60.0})
        progress.start("k", "a/test_1.py::t[x]", 100.0)
        progress.start("k", "a/test_2.py::u", 101.0)
        return progress

    def test_what_runs_is_named(self) -> None:
        assert self.running().line(105.0) == "0 of 3 system tests; running test_1.py::t (k), test_2.py::u (k)"

    def test_what_is_left_is_estimated_from_what_is_done(self) -> None:
        progress = self.running()
        progress.finish(Result("k", "a/test_1.py::t[x]", "passed", 20.0))
        assert progress.line(120.0) == "1 of 3 system tests; about 3 min left; running test_2.py::u (k)"

    def test_the_last_lines(self) -> None:
        progress = self.running()
        progress.finish(Result("k", "a/test_1.py::t[x]", "passed", 20.0))
        progress.finish(Result("k", "a/test_2.py::u", "failed", 20.0))
        progress.finish(Result("l", "v", "skipped", 20.0, "needs docker: …"))
        assert progress.line(120.0).startswith("3 of 3 system tests, 1 failed")
        assert progress.summary(1) == [
            "FAILED a/test_2.py::u (k)",
            "skipped 1: needs docker: …",
            "1 passed, 2 failed, 1 skipped",
        ]

    def test_what_failed_beside_others_counts_by_its_second_time(self) -> None:
        progress = self.running()
        progress.finish(Result("k", "a/test_1.py::t[x]", "failed", 20.0))
        progress.finish(Result("k", "a/test_2.py::u", "failed", 20.0))
        assert progress.taken_back(2) == ([("k", "a/test_1.py::t[x]"), ("k", "a/test_2.py::u")], [("l", "v")])
        assert progress.summary(0)[-1] == "0 passed, 0 failed, 0 skipped"
        progress.finish(Result("k", "a/test_1.py::t[x]", "passed", 20.0))
        progress.finish(Result("k", "a/test_2.py::u", "failed", 20.0))
        assert progress.missing() == [("l", "v")]
        assert progress.summary(0) == [
            "failed beside other guests, passed alone: a/test_1.py::t[x] (k)",
            "FAILED a/test_2.py::u (k)",
            "1 passed, 1 failed, 0 skipped",
        ]

    def test_what_hung_runs_alone_and_what_it_kept_from_beginning_together(self) -> None:
        progress = self.running()
        progress.cut_off.append(("k", "a/test_1.py::t[x]"))  # its guest was ended
        assert progress.taken_back(1) == ([("k", "a/test_1.py::t[x]")], [("k", "a/test_2.py::u"), ("l", "v")])
        for key in progress.expected:
            progress.finish(Result(*key, "passed", 20.0))
        assert progress.summary(0) == [
            "failed beside other guests, passed alone: a/test_1.py::t[x] (k)",
            "3 passed, 0 failed, 0 skipped",
        ]

    def test_many_failures_are_no_matter_of_load(self) -> None:
        progress = self.running()
        progress.finish(Result("k", "a/test_1.py::t[x]", "failed", 20.0))
        progress.cut_off.append(("k", "a/test_2.py::u"))
        assert progress.taken_back(1) == ([], [])
        assert progress.taken_back(0) == ([], [])
        assert progress.summary(0)[-1] == "0 passed, 1 failed, 0 skipped"
