"""What is known of a run while it goes on, and how that is said. Pure: no clock, no process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Result:
    """How a test ended on a kernel."""

    kernel: str
    name: str
    outcome: str
    seconds: float
    reason: str = ""


@dataclass
class Progress:
    """Counts what is done; `expected` has the likely seconds of each (kernel, test) that is to run."""

    expected: Mapping[tuple[str, str], float]
    began: float | None = None
    results: list[Result] = field(default_factory=list)
    first: list[Result] = field(default_factory=list)
    """Failures of tests that are run once more."""
    running: dict[tuple[str, str], float] = field(default_factory=dict)
    cut_off: list[tuple[str, str]] = field(default_factory=list)
    """Tests that had begun when their guest was ended, as one that hangs."""

    def start(self, kernel: str, name: str, now: float) -> None:
        """A test begins. The first one may have waited for a guest to start, or for others to end."""
        if self.began is None:
            self.began = now
        self.running[kernel, name] = now

    def finish(self, result: Result) -> None:
        """A test has ended."""
        self.running.pop((result.kernel, result.name), None)
        self.results.append(result)

    def missing(self, kernel: str = "", tests: Sequence[str] = ()) -> list[tuple[str, str]]:
        """Return (kernel, test) of what has no result, of these tests or of all."""
        ended = {(result.kernel, result.name) for result in self.results}
        wanted = [(kernel, test) for test in tests] or list(self.expected)
        return [key for key in wanted if key not in ended]

    def taken_back(self, most: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return (kernel, test) of what has failed or hung, to be run once more, and of what never began for that.

        None if `most` have failed or hung, and more. The failures do not count then: those of the second time do.
        """
        ended = [result for result in self.results if result.outcome == "failed"]
        ended += [Result(*key, "failed", 0.0) for key in self.missing() if key in self.cut_off]
        if not ended or len(ended) > most:
            return [], []
        self.first = ended
        self.results = [result for result in self.results if result.outcome != "failed"]
        again = [(result.kernel, result.name) for result in ended]
        return again, [key for key in self.missing() if key not in again]

    def line(self, now: float) -> str:
        """Return one line: how many of how many, what runs, how long it may still take."""
        failed = sum(result.outcome == "failed" for result in self.results)
        oldest = sorted(self.running, key=lambda key: self.running[key])
        what = ", ".join(f"{name.rpartition('/')[2].partition('[')[0]} ({kernel})" for kernel, name in oldest[:2])
        others = f" and {len(oldest) - 2} more" if len(oldest) > 2 else ""
        failures = f", {failed} failed" if failed else ""
        runs = f"; running {what}{others}" if what else ""
        return f"{len(self.results)} of {len(self.expected)} system tests{failures}{self._left(now)}{runs}"

    def _left(self, now: float) -> str:
        done = sum(self.expected.get((result.kernel, result.name), 0.0) for result in self.results)
        left = sum(self.expected.values()) - done
        if self.began is None:
            return "; waiting for guests to start"
        if done <= 0:
            return ""
        seconds = max(0.0, left) * (now - self.began) / done
        return (
            f"; about {round(seconds / 60)} min left" if seconds >= 90 else f"; about {round(seconds, -1):.0f} s left"
        )

    def summary(self, problems: int) -> list[str]:
        """Return the last lines: failures by name, skipped tests by reason, the numbers.

        A guest that has failed as such counts as one failure more.
        """
        count = Counter(result.outcome for result in self.results)
        passed = {(result.kernel, result.name) for result in self.results if result.outcome == "passed"}
        lines = [
            f"failed beside other guests, passed alone: {result.name} ({result.kernel})"
            for result in self.first
            if (result.kernel, result.name) in passed
        ]
        lines += [f"FAILED {result.name} ({result.kernel})" for result in self.results if result.outcome == "failed"]
        reasons = Counter(result.reason for result in self.results if result.outcome == "skipped")
        lines += [f"skipped {times}: {reason}" for reason, times in sorted(reasons.items())]
        numbers = f"{count['passed']} passed, {count['failed'] + problems} failed, {count['skipped']} skipped"
        return [*lines, numbers]
