"""The system tests, in as many guests as the machine has room for: ``python -m tests.lab.suite STAGE``."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from types import FrameType

from tests.lab.kernels import SERIES
from tests.lab.paths import places
from tests.lab.suite.choose import STAGES, Item, chosen
from tests.lab.suite.collect import collected
from tests.lab.suite.deal import SLOWER, UNKNOWN, Part, parts
from tests.lab.suite.guests import Guests
from tests.lab.suite.known import remember, seconds
from tests.lab.suite.progress import Progress

WAVES = 3
"""Parts for each place of the machine: the more, the shorter are the last ones; each costs a boot."""

STEP = 30.0
"""Seconds between lines of progress where there is no terminal."""

LONG = {"soak": {"BORG_LVM_RUNS": "40", "BORG_LVM_JUDGED": "10"}}
"""What the counts of proofs are in the soak, see CONTRIBUTING.md."""

AGAIN = {"test": 3, "rest": 3}
"""How many tests of a stage may fail or hang beside other guests if they pass alone: they are not about a busy machine.

None in the soak, nor where somebody has chosen tests: there each failure counts.
"""


NAMED = 5
"""How many of the tests that have not run are named."""


def main() -> int:
    """Run a stage; the status is 0 if every test of it passed or was skipped for a reason."""
    signal.signal(signal.SIGTERM, _stop)
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    options, tests = _parser().parse_args(words[:cut]), words[cut + 1 :]
    environment = LONG.get(options.stage, {})
    os.environ.update(environment)
    plan = chosen(options.stage, options.kernel, collected(tests))
    dealt = _dealt(plan)
    known = seconds()
    expected = {
        (part.kernel, item.name): known.get(item.name, UNKNOWN) * SLOWER[part.kernel]
        for part in dealt
        for item in part.items
    }
    if not expected:
        sys.exit(f"tests: none of these tests is in the stage {options.stage}")
    progress = Progress(expected)
    counts = ", ".join(f"{len(items)} on {kernel}" for kernel, items in plan.items())
    print(f"tests: {counts}; up to {places()} guests at a time", flush=True)
    with _shown(progress) as say:
        guests = Guests(progress, say, [f"--env={name}={value}" for name, value in environment.items()]
                        + [f"--timeout={options.timeout}"])  # fmt: skip
        guests.run(dealt, at_a_time=places())
        again, never_begun = progress.taken_back(AGAIN.get(options.stage, 0))
        if again:
            say(f"tests: once more, and alone: {', '.join(name for _, name in again)}")
            guests.run(_alone(again, dealt) + _without(never_begun, dealt), at_a_time=1)
    remember(progress.results)
    missing = progress.missing()
    named = ", ".join(name for _, name in missing[:NAMED])
    problems = guests.problems + ([f"{len(missing)} tests have not run to their end: {named}"] if missing else [])
    for problem in problems:
        print(f"FAILED: {problem}")
    print("\n".join(progress.summary(len(problems))), flush=True)
    return 1 if problems or any(result.outcome == "failed" for result in progress.results) else 0


def _alone(again: Collection[tuple[str, str]], dealt: Sequence[Part]) -> list[Part]:
    """Return these tests, each in a part of its own: a guest that nothing has run in before."""
    items = [(part.kernel, item) for part in dealt for item in part.items]
    return [Part(kernel, [item]) for kernel, item in items if (kernel, item.name) in again]


def _without(never_begun: Collection[tuple[str, str]], dealt: Sequence[Part]) -> list[Part]:
    """Return the parts as they were, with nothing but these tests: what hung is not among them any more."""
    left = [(part.kernel, [item for item in part.items if (part.kernel, item.name) in never_begun]) for part in dealt]
    return [Part(kernel, items) for kernel, items in left if items]


def _dealt(plan: dict[str, list[Item]]) -> list[Part]:
    """Return the parts in the order of their start: QEMU's, which need a whole processor, then long before short."""
    known = seconds()
    share = {kernel: len(items) for kernel, items in plan.items()}
    total = sum(share.values()) or 1
    dealt = []
    for kernel, items in plan.items():
        uml = kernel.startswith("uml")
        number = max(1, round(WAVES * places() * share[kernel] / total)) if uml else 1
        dealt += parts(kernel, items, known, number)
    return sorted(dealt, key=lambda part: (part.kernel.startswith("uml"), -part.seconds))


@contextlib.contextmanager
def _shown(progress: Progress) -> Iterator[Callable[[str], None]]:
    """Keep one line of progress up to date on a terminal; elsewhere print it from time to time."""
    terminal = sys.stdout.isatty()
    over = threading.Event()
    lock = threading.Lock()

    def say(text: str) -> None:
        with lock:
            print(("\r\033[K" if terminal else "") + text, flush=True)

    def keep() -> None:
        while not over.wait(1.0 if terminal else STEP):
            with lock:
                line = progress.line(time.monotonic())
                width = os.get_terminal_size().columns - 1 if terminal else None
                print(f"\r\033[K{line[:width]}" if terminal else line, end="" if terminal else "\n", flush=True)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield say
    finally:
        over.set()
        thread.join()
        if terminal:
            print("\r\033[K", end="", flush=True)


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave through the ordinary way out, where the guests are ended."""
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.suite", description=__doc__, epilog="after --: files, or -k and the like for pytest"
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument(
        "--kernel", action="append", choices=SERIES, required=True, help="first the one with most tests"
    )
    parser.add_argument("--timeout", type=float, default=7200.0, help="seconds for each guest (default 7200)")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
