"""The control of `make test`: ``python -m tests.control [FAULT…]`` seeds faults, each in a guest of its own.

``--moved`` takes those that `make test-full` is to catch without the tests that were moved from it to the soak.

At least one of a fault's tests must fail, by its own assertion. ``--good`` runs the same tests without any fault: all
must pass. The output of each guest is kept below .lab/control.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tests.control.faults import FAULTS, Fault
from tests.control.moved import MOVED
from tests.control.seeded import GOOD, MARK
from tests.lab.kernels import SERIES
from tests.lab.paths import CHECKOUT, LAB

SAID = LAB / "control"


@dataclass
class Tried:
    """The results of the tests with a fault. `seconds`: from the guest's start to its end."""

    name: str
    seconds: float
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def caught(self) -> list[str]:
        """The tests that failed by an assertion of theirs."""
        return [self._short(one) for one in self.results if one["outcome"] == "failed" and one["right"]]

    @property
    def broken(self) -> list[str]:
        """The tests that failed because the program does not run."""
        return [f"{self._short(one)}: {one['reason']}" for one in self.results if one.get("right") is False]

    @property
    def not_passed(self) -> list[str]:
        """The tests that failed or were skipped."""
        return [self._short(one) for one in self.results if one["outcome"] != "passed"]

    @staticmethod
    def _short(result: dict[str, Any]) -> str:
        return str(result["test"]).removeprefix("tests/")


def tried(name: str, tests: Sequence[str], kernel: str) -> Tried:
    """Run tests in a guest with the fault of that name (`GOOD`: with none)."""
    SAID.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    inner = [sys.executable, "-m", "tests.control.seeded", name, *tests]
    command = [sys.executable, "-m", "tests.lab", "run", "--where", "vm", "--kernel", kernel, "--", *inner]
    with (SAID / name).open("w+") as said:
        with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as child:
            try:
                child.wait()
            finally:
                child.terminate()  # the lab ends its guest then
        said.seek(0)
        lines = [line.removeprefix(MARK) for line in said if line.startswith(MARK)]
    return Tried(name, time.monotonic() - begin, [json.loads(line) for line in lines])


def judge(fault: Fault, kernel: str) -> bool:
    """Try a fault and print a row of the table; returns whether it was caught."""
    found = tried(fault.name, fault.tests, fault.kernel or kernel)
    tests = [test for test in fault.tests if any(name.startswith(test) for name in found.caught)]
    caught = ", ".join(f"`{test}`" for test in tests) or "**nothing**"
    print(f"| {fault.name} | {' '.join(fault.promise.split())} | {caught} | {found.seconds:.0f} |", flush=True)
    if not found.caught:
        print(f"control: FAILED: no test catches {fault.name}: {SAID / fault.name}", file=sys.stderr)
    for line in found.broken:
        print(f"control: {fault.name} breaks more than its promise: {line}", file=sys.stderr)
    return bool(found.caught) and not found.broken


def good(faults: Sequence[Fault], kernel: str) -> bool:
    """Run all tests of these faults without any, on each kernel that they name; returns whether all have passed."""
    kernels = dict.fromkeys(fault.kernel or kernel for fault in faults)
    passed = [_good([fault for fault in faults if (fault.kernel or kernel) == one], one) for one in kernels]
    return all(passed)


def _good(faults: Sequence[Fault], kernel: str) -> bool:
    tests = list(dict.fromkeys(test for fault in faults for test in fault.tests))
    found = tried(GOOD, tests, kernel)
    ran = {str(one["test"]).removeprefix("tests/") for one in found.results}
    absent = [test for test in tests if not any(name.startswith(test) for name in ran)]
    passed = len(found.results) - len(found.not_passed)
    print(f"control: without a fault {passed} of {len(found.results)} tests passed in {found.seconds:.0f} s")
    for test in (*found.not_passed, *absent):
        print(f"control: FAILED: {test} does not pass without a fault: {SAID / GOOD}", file=sys.stderr)
    return not (found.not_passed or absent)


def main() -> int:
    """Do what the command line says; the status is 0 if every fault was caught."""
    signal.signal(signal.SIGTERM, _stop)
    parser = argparse.ArgumentParser(prog="python -m tests.control", description=__doc__)
    every = [fault.name for fault in (*FAULTS, *MOVED)]
    parser.add_argument("fault", nargs="*", metavar="FAULT", help=f"of {', '.join(every)}")
    parser.add_argument("--moved", action="store_true", help="those of what was moved to the soak")
    parser.add_argument("--good", action="store_true", help="run the tests without a fault")
    parser.add_argument("--kernel", choices=SERIES, default="uml-6.1")
    options = parser.parse_args()
    if unknown := set(options.fault).difference(every):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    chosen: Sequence[Fault] = MOVED if options.moved else FAULTS
    if options.fault:
        chosen = [fault for fault in (*FAULTS, *MOVED) if fault.name in options.fault]
    for fault in chosen:
        fault.seeded()  # all anchors are there before the first guest starts
    if options.good:
        return 0 if good(chosen, options.kernel) else 1
    print("| fault | breaks | caught by | seconds |\n|---|---|---|---|", flush=True)
    missed = [fault.name for fault in chosen if not judge(fault, options.kernel)]
    print(f"control: {len(chosen) - len(missed)} of {len(chosen)} faults were caught", flush=True)
    return 1 if missed else 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave through the ordinary way out, where the guest is ended."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
