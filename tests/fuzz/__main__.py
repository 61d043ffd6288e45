"""`python -m tests.fuzz [NAME …] [--cases N] [--seed S]`: run the fuzzers of these names, all without a name."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import random
import sys
import time

from tests import fuzz
from tests.fuzz import Figures

MOST_REFUSED = 0.01
"""of the lines that the program accepts."""
GARBAGE = ("borg_garbage", "broken", "parsers")
"""Those whose input is broken: to refuse it is right, and they get five times the cases."""


def names() -> list[str]:
    """Return the names of all fuzzers: the modules with a `run`."""
    found = sorted(each.name for each in pkgutil.iter_modules(fuzz.__path__) if not each.name.startswith("_"))
    return [name for name in found if hasattr(importlib.import_module(f"tests.fuzz.{name}"), "run")]


def good(figures: Figures) -> bool:
    """Tell whether nothing was missed, nothing failed, and hardly anything was refused."""
    return _right(figures) and figures.refused <= MOST_REFUSED * figures.accepted


def _right(figures: Figures) -> bool:
    return not figures.missed and not figures.faults


def main() -> int:
    """Run the fuzzers and print their figures; the status is 1 if one of them found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a fuzzer")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="default: another one each time")
    args = parser.parse_args()
    status = 0
    for name in args.names or names():
        began = time.monotonic()
        garbage = name in GARBAGE
        run = importlib.import_module(f"tests.fuzz.{name}").run
        figures: Figures = run(args.cases * 5 if garbage else args.cases, args.seed)
        for fault in figures.faults:
            print(f"{name}: {fault}")
        print(
            f"{name}: seed {args.seed}: {figures.cases} cases, {figures.accepted} accepted, {figures.refused} refused"
            f" by us, {figures.missed} missed, {len(figures.faults)} faults, {time.monotonic() - began:.0f} s",
            flush=True,
        )
        status |= not (_right(figures) if garbage else good(figures))
    return status


if __name__ == "__main__":
    sys.exit(main())
