"""How long each test has lasted: as shipped, and as measured here since."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tests.lab.paths import LAB
from tests.lab.suite.deal import SLOWER
from tests.lab.suite.progress import Result

SHIPPED = Path(__file__).with_name("seconds.json")
HERE = LAB / "seconds.json"


def seconds() -> dict[str, float]:
    """Return the seconds that each test is likely to last under User Mode Linux."""
    result: dict[str, float] = {}
    for file in (SHIPPED, HERE):
        if file.is_file():
            result |= {str(name): float(value) for name, value in json.loads(file.read_text()).items()}
    return result


def remember(results: Iterable[Result]) -> None:
    """Write down what has passed here, for the next run."""
    write(HERE, {**seconds(), **measured(results)})


def measured(results: Iterable[Result]) -> dict[str, float]:
    """Return the seconds of what has passed under User Mode Linux; from QEMU, by a guess, where there are no others.

    Nearly all tests run under both or under User Mode Linux alone, and which result of a test comes last is chance.
    """
    passed = [result for result in results if result.outcome == "passed"]
    passed.sort(key=lambda result: SLOWER[result.kernel], reverse=True)
    return {result.name: result.seconds / SLOWER[result.kernel] for result in passed}


def write(file: Path, known: dict[str, float]) -> None:
    """Write a table; `python -m tests.lab.suite.known` ships what was measured here."""
    file.write_text(json.dumps({name: round(value, 1) for name, value in sorted(known.items())}, indent=0) + "\n")


if __name__ == "__main__":
    write(SHIPPED, seconds())
