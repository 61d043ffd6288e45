"""What the contract of providers does with one: the steps of a run, one by one, and a run that is killed at one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from borg_lvm.linux import syscalls
from borg_lvm.linux.signals import Signals
from borg_lvm.planning.plan import Snapshot
from borg_lvm.snapshots import prepare
from borg_lvm.snapshots.provider import Hold, Prepared, RunContext
from borg_lvm.snapshots.take import Taker
from borg_lvm.state import ledger
from borg_lvm.testing.provider_subject import ProviderSubject
from borg_lvm.watchdog import client

TIMEOUT = 60.0
"""Seconds that a program of the provider's may take."""
STEPS = ("written down", "prepared", "completed", "suspended", "appeared", "resumed", "made")
"""How far a run has come that dies, in their order."""


def write(places: Sequence[str], name: str, patience: float) -> None:
    """Write a file in each of these directories, at the same time. Raises: AssertionError when one is not written."""
    writers = [writing(place, name) for place in places]
    end = time.monotonic() + patience
    for place, writer in zip(places, writers, strict=True):
        while writer.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        assert writer.returncode == 0, f"{place} takes no writes"


def writing(place: str, name: str) -> subprocess.Popen[bytes]:
    """Begin to write a file and to have it on its disk; the process ends when it is there."""
    return subprocess.Popen(["sh", "-c", 'echo written >"$1" && sync "$1"', "sh", os.path.join(place, name)])


def each(holds: Sequence[Hold], verb: str) -> None:
    """Call a method of each hold, before anything else: the window does no more."""
    for hold in holds:
        getattr(hold, verb)()


@contextmanager
def begun(subject: ProviderSubject, deadline: float) -> Iterator[RunContext]:
    """Begin a run of a new plan, whose window may last so many seconds; its ledger goes with it."""
    plan = subject.plan()
    with Signals() as signals, ledger.opened(plan.run_id, "the contract") as book, client.started() as watchdog:
        try:
            yield RunContext(plan, watchdog, book, signals, subject.log, deadline, TIMEOUT)
        finally:
            ledger.forget(plan.run_id)


@contextmanager
def released(subject: ProviderSubject, run: RunContext) -> Iterator[None]:
    """Remove the snapshots in the end, and see that the provider reports none that is left."""
    with subject.provider.released(run, keep=False) as left:
        yield
    assert left == []


@contextmanager
def taken(subject: ProviderSubject, deadline: float) -> Iterator[RunContext]:
    """Have the snapshots taken as a run does it, for the length of the block."""
    with begun(subject, deadline) as run, released(subject, run):
        (instant,) = Taker(run, subject.provider).take()
        assert set(instant.names) == {snapshot.origin.full_name for snapshot in run.plan.snapshots}
        yield run


@contextmanager
def prepared(subject: ProviderSubject, run: RunContext) -> Iterator[Prepared]:
    """Do what a run does before it may be completed (`Taker`)."""
    provider, plan = subject.provider, run.plan
    provider.announce(run, plan.snapshots)
    with prepare.opened(plan) as fds:
        for snapshot in plan.snapshots:
            provider.write_down(run, snapshot)
        with prepare.memory_locked(), provider.prepared(run, plan.snapshots, fds) as ready:
            yield ready


@contextmanager
def in_window(run: RunContext, ready: Prepared) -> Iterator[Sequence[Hold]]:
    """Give the holds of a window that the watchdog watches, for the length of the block."""
    with ready.completed() as holds:
        run.ledger.write("window")
        with run.watchdog.window(run.deadline):
            yield holds
        run.ledger.write("thawed")


def note(run: RunContext, ready: Prepared) -> None:
    """Have it proven that the snapshots work, and write down what was made."""
    for name, uuid in ready.prove().items():
        run.ledger.write_made(name, uuid)


@contextmanager
def mounted(subject: ProviderSubject, snapshot: Snapshot, directory: Path) -> Iterator[str]:
    """Mount a snapshot read-only in a directory for the length of the block."""
    point = directory / snapshot.name
    point.mkdir()
    subject.provider.mount(snapshot, str(point), syscalls.MS_RDONLY)
    try:
        yield str(point)
    finally:
        syscalls.umount(str(point), 0)


def killed(subject: ProviderSubject, step: str, deadline: float) -> tuple[str, list[str]]:
    """Have a run and its watchdog killed when it has come so far; return its id, and where its volumes are mounted."""
    plan = subject.plan()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with Signals() as signals, ledger.opened(plan.run_id, "the contract") as book, client.started() as watchdog:
                context = RunContext(plan, watchdog, book, signals, subject.log, deadline, TIMEOUT)
                _go(subject, context, lambda here: _wait_at(here == step, write_end, watchdog.pid))
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        line = pipe.readline()
    try:
        assert line, f"it did not come so far that it had {step}"
        os.kill(int(line), signal.SIGKILL)  # first, lest it should undo what we leave
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return plan.run_id, [snapshot.mounted_at for snapshot in plan.snapshots]


def _wait_at(here: bool, write_end: int, watchdog: int) -> None:
    if here:
        os.write(write_end, f"{watchdog}\n".encode())
        time.sleep(3600)


def _go(subject: ProviderSubject, run: RunContext, at: Callable[[str], None]) -> None:
    """Take the snapshots; `at` is called with each of `STEPS`."""
    provider, plan = subject.provider, run.plan
    provider.announce(run, plan.snapshots)
    with prepare.opened(plan) as fds:
        for snapshot in plan.snapshots:
            provider.write_down(run, snapshot)
        at("written down")
        with prepare.memory_locked(), provider.prepared(run, plan.snapshots, fds) as ready:
            at("prepared")
            with ready.completed() as holds:
                at("completed")
                run.ledger.write("window")
                for verb, step in (("suspend", "suspended"), ("appear", "appeared"), ("resume", "resumed")):
                    each(holds, verb)
                    at(step)
                run.ledger.write("thawed")
            note(run, ready)
            at("made")
