"""Runs tests with a fault, in a guest alone: ``python -m tests.control.seeded FAULT|good TEST…``.

The guest's root is an overlay that is thrown away with it, so the file is rewritten where all processes find it. Each
test prints a line of JSON after `MARK`: its name, its outcome, and for a failure the exception and its message.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.control.faults import CHECKOUT, FAULTS, Fault
from tests.control.moved import MOVED

MARK = "control: "
GOOD = "good"
REASON = 300
"""How many characters of a failure's message are printed."""
BROKEN = re.compile(r"\b(Import|ModuleNotFound|Syntax|Indentation|Name|Attribute|Type)Error\b")
"""A fault that causes one of these is a program that does not run, not one that breaks its promise."""


class Recorder:
    """A pytest plugin that prints the outcome of each test."""

    def __init__(self) -> None:
        self._worst: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Remember the first failure of set-up, call and clean-up."""
        report = yield
        facts: dict[str, Any] = {"test": item.nodeid, "outcome": report.outcome}
        if report.failed and call.excinfo:
            facts |= reason(call.excinfo.value)
        if report.failed or (report.skipped and call.when != "teardown"):
            self._worst.setdefault(item.nodeid, facts)
        if call.when == "teardown":
            print(f"\n{MARK}{json.dumps(self._worst.pop(item.nodeid, facts))}", flush=True)
        return report


def reason(error: BaseException) -> dict[str, str | bool]:
    """Return why a test failed; `right`: by one of its own assertions, and not because the program does not run."""
    words = str(error)
    judged = isinstance(error, AssertionError | pytest.fail.Exception)
    message = f"{type(error).__name__}: {' '.join(words.split())}"
    return {"right": judged and not BROKEN.search(words), "reason": message[:REASON]}


def seed(fault: Fault) -> None:
    """Put the fault into the file. Raises: AnchorError; SystemExit where the file would keep it."""
    if os.environ.get("BORG_LVM_LAB") != "guest":
        sys.exit("control: faults are seeded in a guest only, whose root is thrown away: python -m tests.control")
    (CHECKOUT / fault.file).write_text(fault.seeded())


def main(arguments: Sequence[str]) -> int:
    """Seed the fault, then run the tests; returns pytest's exit status."""
    name, *tests = arguments
    for fault in (*FAULTS, *MOVED):
        if fault.name == name:
            seed(fault)
    os.chdir(CHECKOUT)
    words = ["-p", "tests.lab.pytest_events", "-q", "--tb=short", *(str(Path("tests") / test) for test in tests)]
    return pytest.main(words, plugins=[Recorder()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
