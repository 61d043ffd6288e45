"""The lab's command line: ``python -m tests.lab run|test|shell|fetch``."""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from tests.lab import alone, guest, here
from tests.lab.accelerator import accelerator
from tests.lab.events import GRACE, Tally
from tests.lab.initramfs import initramfs
from tests.lab.job import Job
from tests.lab.kernels import SERIES, kernel, named
from tests.lab.paths import CHECKOUT
from tests.lab.watch import Outcome
from tests.lab.where import Choice, decide, facts

NEEDLESS = ["-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:xdist.looponfail"]
"""For pytest in a guest: plugins that system tests do not use. Their imports take a second there."""


def main() -> int:
    """Do what the command line says and return the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    options = _parser().parse_args()
    if options.action == "fetch":
        for series in options.kernels or SERIES:
            initramfs(kernel(series))
        return 0
    if options.action == "shell":
        chosen = kernel(options.kernel or SERIES[0])
        job = Job(options.command or ["bash", "-l"], options.timeout, {"PS1": f"lab {chosen.series} \\w # "})
        return guest.shell(job, chosen, accelerator(chosen))
    choice = decide(options.where, options.kernel, facts())
    command = options.command
    if options.action == "test":
        pytest = [sys.executable, "-m", "pytest", *NEEDLESS, "-p", "tests.lab.pytest_events", "-q"]
        command = pytest + (command or ["tests/system"])
    elif not command:
        _parser().error("run needs a command")
    columns = str(shutil.get_terminal_size().columns)  # the command writes to a pipe and cannot ask
    given = {
        "BORG_LVM_LAB_KERNEL": choice.series,
        "BORG_LVM_LAB_COLUMNS": columns,
        **dict(pair.split("=", 1) for pair in options.env),
    }
    job = Job(command, options.timeout, given)
    tally = Tally(job.nonce, choice.series, options.grace, relay=_relay(options.events))
    return _report(options.action == "test", job, choice, tally, _run(job, choice, tally))


def _run(job: Job, choice: Choice, tally: Tally) -> Outcome:
    for part in ("borg_lvm", "hooks", "tests"):
        # A guest cannot keep what it compiles, and compiling is what it is slowest at.
        compileall.compile_dir(CHECKOUT / part, quiet=2)
    alone.borg()
    if choice.here:
        print(f"lab: here, kernel {choice.series}: {choice.why}", flush=True)
        return here.run(job, tally)
    chosen = kernel(choice.series)
    accel = accelerator(chosen)
    print(f"lab: guest, kernel {chosen.release}, {accel}: {choice.why}", flush=True)
    return guest.run(job, chosen, accel, tally)


def _report(tests: bool, job: Job, choice: Choice, tally: Tally, outcome: Outcome) -> int:
    """Say what went wrong, if anything, and end with the numbers of the tests."""
    if tests or tally.collected is not None:
        outcome.problems += tally.problems()
    if outcome.problems and not choice.here:
        print(f"lab: the guest's console ended with\n{guest.kernel_log(job.out)}")
    for problem in outcome.problems:
        print(f"lab: FAILED: {problem}")
    if tests or tally.collected is not None:
        up = f", up after {outcome.up_after:.1f} s" if outcome.up_after else ""
        print(f"lab: kernel {outcome.kernel}{up}, results in {job.out}")
        print(tally.summary(), flush=True)
    return outcome.exit_status


def _relay(descriptor: int | None) -> Callable[[dict[str, Any]], None] | None:
    """Return what passes records on, a line of JSON each, if somebody wants them."""
    if descriptor is None:
        return None
    os.set_inheritable(descriptor, False)
    stream = os.fdopen(descriptor, "w", buffering=1)
    return lambda record: print(json.dumps(record), file=stream)


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave through the ordinary way out, where the guest is ended."""
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name, told in (("run", "run a command"), ("test", "run system tests"), ("shell", "look around by hand")):
        action = actions.add_parser(name, help=told)
        action.add_argument(
            "--kernel", type=named, choices=SERIES, help="which kernel, or nearest: this release's UML (default)"
        )
        action.add_argument("--where", choices=("auto", "here", "vm"), default="auto")
        action.add_argument("--timeout", type=float, default=3600.0, help="seconds for everything (default 3600)")
        action.add_argument("--grace", type=float, default=GRACE, help="seconds that a test may exceed its limit")
        action.add_argument("--events", type=int, metavar="FD", help="descriptor that gets each test's start and end")
        action.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the command")
        action.add_argument("command", nargs="*", help="after --: the command, or arguments for pytest")
    fetch = actions.add_parser("fetch", help="get the kernels ready")
    fetch.add_argument("kernels", nargs="*", metavar="SERIES")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        os._exit(130)
