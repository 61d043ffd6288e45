"""Differential fuzzers: our reader of a command line beside the program's own.

Each module offers `run(cases, seed) -> Figures`; `python -m tests.fuzz NAME --cases N --seed S` runs one of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """What came of a number of cases.

    `accepted` are the lines that the program accepts, `refused` those of them that our reader refuses, `missed` those
    in which our reading lacks a root or has a wrong one. `faults` names each traceback, and each case that took more
    than two seconds or 100 MiB.
    """

    cases: int
    accepted: int
    refused: int
    missed: int
    faults: tuple[str, ...] = ()
