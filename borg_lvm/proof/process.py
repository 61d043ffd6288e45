"""The process that reads back: a child in the view, which is waited for while the snapshots are watched.

What it starts is in its process group, and ends with it; it has no terminal that a program could ask at.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.linux import syscalls
from borg_lvm.linux.namespaces import View
from borg_lvm.linux.signals import ENDING, STRAY, Signals, take_effect
from borg_lvm.log import Log
from borg_lvm.planning.plan import Plan
from borg_lvm.planning.snapshot_size import human
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.plugins.read_back import Span
from borg_lvm.proof.frozen_tree import FrozenTree
from borg_lvm.proof.programs import ViewPrograms
from borg_lvm.proof.read_back import Comparison, Tally
from borg_lvm.reporting import proof
from borg_lvm.reporting.proof import Proof
from borg_lvm.snapshots.monitor import Watcher
from borg_lvm.state.ledger import Ledger

SHOW_EVERY = 10.0
"""Seconds between two lines about how far it is."""
PATIENCE = 15.0
"""Seconds between asking the process to end and forcing it: it ends its programs first."""
SLACK = 30.0
"""Seconds that it gets beyond its time limit, at which it ends by itself."""
LOOK_AGAIN = 0.5


@dataclass(frozen=True)
class Task:
    """What is read back, in which view, of which command, with which plugins; `span` is when the command ran."""

    planned: PlannedProof
    plan: Plan
    invocation: Invocation
    hooks: tuple[str, ...]
    span: Span

    def tree(self, devices: Sequence[int]) -> FrozenTree:
        """Return the frozen view as the comparison sees it."""
        live = [hole.path for hole in self.plan.holes] + [path for path, _ in self.plan.live_sources]
        ways = {given: real for given, (_, real) in self.plan.ways.items()}
        covers = [laid.target for laid in self.plan.covers if not laid.device]
        return FrozenTree(covers, devices, live, ways)


@dataclass(frozen=True)
class Means:
    """What a run has at hand when its command has ended."""

    view: View
    monitor: Watcher
    ledger: Ledger
    signals: Signals
    log: Log


def prove(task: Task, means: Means) -> Proof:
    """Have it read back, and return what came of it. Raises: InterruptedRunError."""
    with _begun(task, means.view, means.ledger) as reader:
        return reader.wait(means.monitor, means.signals, means.log)


@dataclass
class _Child:
    """The process, and the pipe by which it tells how far it is and what came of it: a JSON object a line."""

    pid: int
    pipe: int
    planned: PlannedProof
    begin: float
    told: bytes = b""

    def wait(self, monitor: Watcher, signals: Signals, log: Log) -> Proof:
        """Wait for the result, look after the snapshots, show how far it is."""
        end = self.begin + self.planned.time_limit + SLACK
        with _heeding(signals):
            while time.monotonic() < end:
                signals.check("while the backup was read back")
                pause = monitor.look()
                if monitor.over:
                    return self._without("a snapshot was lost meanwhile; what was saved is of before that")
                if not select.select([self.pipe], [], [], min(pause, LOOK_AGAIN))[0]:
                    continue
                more = os.read(self.pipe, 1 << 16)
                self.told += more
                if not more:
                    return self._result()
                self._show(log)
        return self._without("it did not end in time")

    def _show(self, log: Log) -> None:
        while b'"progress"' in (line := self.told.partition(b"\n")[0]) and b"\n" in self.told:
            self.told = self.told.partition(b"\n")[2]
            log.info(str(json.loads(line)["progress"]))

    def _result(self) -> Proof:
        try:
            return proof.from_data(json.loads(self.told))
        except ValueError:
            return self._without("the process that read it back was ended before it could tell")

    def _without(self, why: str) -> Proof:
        return Proof(self.planned.mode, "not proven", self.planned.seed, time.monotonic() - self.begin, why=why)


@contextmanager
def _heeding(signals: Signals) -> Iterator[None]:
    """Take note of signals in the block, as before the command: while that ran they were blocked."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {*ENDING, *STRAY})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    signals.check("while the backup was read back")


@contextmanager
def _begun(task: Task, view: View, ledger: Ledger) -> Iterator[_Child]:
    """Start the process; it and all that it has started are gone in the end."""
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(hear)
        ledger.let_go()
        _child(task, view, tell)
    os.close(tell)
    try:
        ledger.write_process("command", pid)
        yield _Child(pid, hear, task.planned, time.monotonic())
    finally:
        os.close(hear)
        _end(pid)


def _end(pid: int) -> None:
    """End the group: programs let go of their repository when they are asked."""
    _send(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            _send(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _send(pid: int, signum: signal.Signals) -> None:
    """Send a signal to the group, or to the process that has none yet."""
    try:
        os.killpg(pid, signum)
    except ProcessLookupError:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def _child(task: Task, view: View, tell: int) -> NoReturn:
    """Enter the view, read back, and tell. Never returns and never raises."""
    try:
        parent = os.getppid()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            os.setsid()  # no terminal, so that nothing can be asked there
            take_effect()
            signal.signal(signal.SIGTERM, _stop)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            _write(tell, proof.as_data(_proof(task, view, tell)))
    finally:
        os._exit(0)


def _stop(signum: int, frame: FrameType | None) -> None:
    """End, and all that has been started before."""
    raise SystemExit


def _proof(task: Task, view: View, tell: int) -> Proof:
    planned = task.planned
    begin = time.monotonic()
    shown = [begin]

    def show(tally: Tally) -> None:
        if time.monotonic() - shown[0] >= SHOW_EVERY:
            shown[0] = time.monotonic()
            text = f"reading back: {tally.entries:,} entries compared, {human(tally.bytes)} of content"
            _write(tell, {"progress": text})

    try:
        syscalls.setns(view.namespace, syscalls.CLONE_NEWNS)
        answer = manager.read_back(task.hooks, task.invocation)
        if answer is None or answer.refused:
            return Proof(planned.mode, "not proven", planned.seed, why=answer.refused if answer else "no plugin can")
        programs = ViewPrograms(task.invocation, begin + planned.time_limit)
        comparison = Comparison(planned, task.tree(view.devices), programs, Tally(show))
        return comparison.prove(answer, task.span)
    except Exception as error:  # a stranger's plugin may fail in any way
        seconds = time.monotonic() - begin
        return Proof(planned.mode, "not proven", planned.seed, seconds, why=f"{type(error).__name__}: {error}")


def _write(tell: int, facts: Mapping[str, object]) -> None:
    data = json.dumps(facts).encode() + b"\n"
    while data:
        data = data[os.write(tell, data) :]
