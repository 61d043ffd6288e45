"""What the tests in a guest report about themselves, and what the host makes of it. Pure: no clock, no process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

GRACE = 30.0  # seconds over its limit after which the host no longer trusts a test to end by itself


@dataclass
class Running:
    """The test that runs right now."""

    name: str
    limit: float
    since: float


@dataclass
class Tally:
    """Collects the events of one pytest session and judges whether they tell a whole story."""

    nonce: str
    label: str
    grace: float = GRACE
    collected: int | None = None
    running: Running | None = None
    outcomes: list[tuple[str, str]] = field(default_factory=list)
    finished: bool = False
    relay: Callable[[dict[str, Any]], None] | None = None
    """Gets each record instead of a line that a person reads."""

    def take(self, line: str, now: float) -> str | None:
        """Take one line of JSON; return what is to be shown, if anything. Lines without our nonce do not count."""
        record = parsed(line, self.nonce)
        if record is None:
            return None
        shown = self._count(record, now)
        if self.relay:
            self.relay(record)
            return None
        return shown

    def _count(self, record: dict[str, Any], now: float) -> str | None:
        match record.get("event"):
            case "collected":
                self.collected = int(record["count"])
            case "start":
                self.running = Running(str(record["test"]), float(record["limit"]), now)
            case "finish":
                self.running = None
                self.outcomes.append((str(record["test"]), str(record["outcome"])))
                seconds = float(record["seconds"])
                return f"[{self.label}] {seconds:.1f}s {str(record['outcome']).upper()} {record['test']}"
            case "done":
                self.finished = True
        return None

    def overdue(self, now: float) -> Running | None:
        """Return the running test if it is past its limit and the grace on top."""
        test = self.running
        return test if test and now > test.since + test.limit + self.grace else None

    def problems(self) -> list[str]:
        """Return why this is not a complete run; an empty list means that every collected test has its result."""
        if self.collected is None:
            return ["no test session reported itself"]
        found = []
        if self.running:
            found.append(f"the test {self.running.name} never finished")
        if len(self.outcomes) != self.collected:
            found.append(f"{self.collected} tests were collected, but {len(self.outcomes)} finished")
        if not self.finished:
            found.append("the test session did not come to its end")
        return found

    def summary(self) -> str:
        """Return the last line of a run; a test that never finished has failed."""
        count = {kind: sum(outcome == kind for _, outcome in self.outcomes) for kind in ("passed", "failed", "skipped")}
        count["failed"] += self.running is not None
        return f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped"


def parsed(line: str, nonce: str) -> dict[str, Any] | None:
    """Return a record if it is one of ours: an object of JSON that carries the nonce of this very run."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get("nonce") == nonce else None
