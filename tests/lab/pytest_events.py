"""A pytest plugin for tests in the lab: reports each start and finish to the host, and bounds each test's time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from typing import IO

import pytest

LIMIT = 180.0  # seconds for a test that names none


class Reporter:
    """Sends one line of JSON per event to the host."""

    def __init__(self, stream: IO[bytes], nonce: str) -> None:
        self._stream = stream
        self._nonce = nonce
        self._outcome = "passed"
        self._reason = ""

    def tell(self, event: str, **facts: object) -> None:
        """Send an event; unbuffered, because the machine may be gone the next moment."""
        self._stream.write(json.dumps({"nonce": self._nonce, "event": event, **facts}).encode() + b"\n")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell how many results the host has to expect."""
        self.tell("collected", count=len(session.items))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Tell start and finish of each test."""
        self._outcome, self._reason = "passed", ""
        self.tell("start", test=item.nodeid, limit=limit_of(item))
        began = time.monotonic()
        result = yield
        took = round(time.monotonic() - began, 3)
        self.tell("finish", test=item.nodeid, outcome=self._outcome, seconds=took, reason=self._reason)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the worst of set-up, call and clean-up."""
        if report.failed:
            self._outcome = "failed"
        elif report.skipped and self._outcome == "passed":
            self._outcome = "skipped"
            # pytest's own form: the file, the line, "Skipped: reason".
            self._reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Leave out pytest's dots: the host prints a line for each test."""
        if report.passed and report.when == "call" and not hasattr(report, "wasxfail"):
            return "passed", "", ""
        return None

    def pytest_sessionfinish(self) -> None:
        """Tell that the session came to its end."""
        self.tell("done")


def pytest_configure(config: pytest.Config) -> None:
    """Take part only where the lab is listening."""
    path = os.environ.pop("BORG_LVM_LAB_EVENTS", None)
    if path:
        # It may be a serial line, which must not become our terminal. Open as long as this process lives.
        stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC), "wb", buffering=0)
        config.pluginmanager.register(Reporter(stream, os.environ.get("BORG_LVM_LAB_NONCE", "")), "borg-lvm-lab")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hand each test's limit to pytest-timeout, which fails the test and shows the stacks of all threads."""
    for item in items:
        item.add_marker(pytest.mark.timeout(limit_of(item), method="signal"))


def limit_of(item: pytest.Item) -> float:
    """Return the seconds that a test may take."""
    marker = item.get_closest_marker("limit")
    return float(marker.args[0]) if marker else LIMIT
