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
from types import FrameType
from typing import NoReturn

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.linux import namespaces, syscalls
from borg_lvm.linux.namespaces import ViewNamespace
from borg_lvm.linux.signals import ENDING, STRAY, Signals, take_effect
from borg_lvm.log import Log
from borg_lvm.planning.plan import Plan
from borg_lvm.planning.snapshot_size import human
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import Invocation, Span
from borg_lvm.proof.frozen_tree import FrozenTree
from borg_lvm.proof.programs import ViewPrograms, limited_memory
from borg_lvm.proof.read_back import Comparison
from borg_lvm.proof.tally import Tally
from borg_lvm.records import dataclass
from borg_lvm.reporting import proof
from borg_lvm.reporting.proof import Proof
from borg_lvm.snapshots.monitor import Watcher
from borg_lvm.state.ledger import Ledger
from borg_lvm.view import mounts
from borg_lvm.view.mounting import place

SHOW_EVERY = 10.0
"""Seconds between two lines about how far it is."""
PATIENCE = 15.0
"""Seconds between asking the process to end and forcing it: it ends its programs first."""
SLACK = 30.0
"""Seconds that it gets beyond its time limit, at which it ends by itself."""
LOOK_AGAIN = 0.5


@dataclass(frozen=True)
class Task:
    """What is read back, in which view, of which command, with which plugins; `span` is when the command ran.

    `base` is the directory that the view is mounted on, if its paths are not the usual ones.
    """

    planned: PlannedProof
    plan: Plan
    invocation: Invocation
    hooks: tuple[str, ...]
    span: Span
    base: str = ""

    def tree(self, devices: Sequence[int]) -> FrozenTree:
        """Return the frozen view as the comparison sees it. What lies beside a view below a directory is live."""
        live = [live_path.path for live_path in self.plan.live_paths] + [path for path, _ in self.plan.live_sources]
        frozen_paths = [view_mount.target for view_mount in self.plan.view_mounts if not view_mount.device]
        if self.base:
            live, frozen_paths = ([place(self.base, path) for path in paths] for paths in (live, frozen_paths))
            return FrozenTree(frozen_paths, devices, ["/", *live], {})  # no source of such a view is a link
        ways = {given: real for given, (_, real) in self.plan.ways.items()}
        return FrozenTree(frozen_paths, devices, live, ways)

    @property
    def not_found(self) -> str:
        """What is to be said if no archive is found: to `end` any command line can be given."""
        if not self.base:
            return "no archive was found that this run has certainly made"
        return (
            f"no archive was found that the `{self.invocation.program}` which `borg-lvm end` has named made from the "
            "view: name the command line of the backup, word for word, in its environment and directory"
        )

    def enter(self, view: ViewNamespace) -> str:
        """Enter the view with this process; return what it does not show any more, if anything. Raises: OSError.

        What is mounted on the machine itself others may unmount: what we have got of it here, we keep.
        """
        syscalls.setns(view.namespace, syscalls.CLONE_NEWNS)
        if not self.base:
            return ""
        namespaces.make_own()
        return next(iter(mounts.uncovered(self.plan, view.devices, self.base)), "")


@dataclass(frozen=True)
class ProofMeans:
    """What a run has at hand when its command has ended."""

    view: ViewNamespace
    monitor: Watcher
    ledger: Ledger
    signals: Signals
    log: Log


def prove(task: Task, means: ProofMeans) -> Proof:
    """Have it read back, and return the result. Raises: InterruptedRunError."""
    with _begun(task, means.view, means.ledger) as reader:
        return reader.wait(means.monitor, means.signals, means.log)


@dataclass
class _Child:
    """The process, and the pipe by which it reports its progress and its result: a JSON object a line."""

    pid: int
    pipe: int
    planned: PlannedProof
    begin: float
    answer: bytes = b""

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
                self.answer += more
                if not more:
                    return self._result()
                self._show(log)
        return self._without("it did not end in time")

    def _show(self, log: Log) -> None:
        while b'"progress"' in (line := self.answer.partition(b"\n")[0]) and b"\n" in self.answer:
            self.answer = self.answer.partition(b"\n")[2]
            log.info(str(json.loads(line)["progress"]))

    def _result(self) -> Proof:
        try:
            return proof.from_data(json.loads(self.answer))
        except ValueError:
            return self._without("the process that read it back was ended before it had reported")

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
def _begun(task: Task, view: ViewNamespace, ledger: Ledger) -> Iterator[_Child]:
    """Start the process; it and all that it has started are gone in the end."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        ledger.let_go()
        _child(task, view, write_end)
    os.close(write_end)
    try:
        ledger.write_process("command", pid)
        yield _Child(pid, read_end, task.planned, time.monotonic())
    finally:
        os.close(read_end)
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


def _child(task: Task, view: ViewNamespace, write_end: int) -> NoReturn:
    """Enter the view, read back, and report. Never returns and never raises."""
    try:
        parent = os.getppid()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            os.setsid()  # no terminal, so that nothing can be asked there
            take_effect()
            signal.signal(signal.SIGTERM, _stop)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            _write(write_end, proof.as_data(_proof(task, view, write_end)))
    finally:
        os._exit(0)


def _stop(signum: int, frame: FrameType | None) -> None:
    """End, and all that has been started before."""
    raise SystemExit


def _proof(task: Task, view: ViewNamespace, write_end: int) -> Proof:
    planned = task.planned
    begin = time.monotonic()
    shown, most = [begin], 0

    def show(tally: Tally) -> None:
        if time.monotonic() - shown[0] >= SHOW_EVERY:
            shown[0] = time.monotonic()
            text = f"reading back: {tally.entries:,} entries compared, {human(tally.bytes)} of content"
            _write(write_end, {"progress": text})

    try:
        if gone := task.enter(view):
            return Proof(planned.mode, "not proven", planned.seed, why=f"{gone} does not show its snapshot any more")
        answer = manager.read_back(task.hooks, task.invocation)
        if answer is None or answer.refused:
            return Proof(planned.mode, "not proven", planned.seed, why=answer.refused if answer else "no plugin can")
        programs = ViewPrograms(task.invocation, begin + planned.time_limit)
        comparison = Comparison(planned, task.tree(view.devices), programs, Tally(show), task.not_found)
        with limited_memory() as most:
            return comparison.prove(answer, task.span)
    except MemoryError:
        why = f"reading it takes more than {human(most)} of memory"
        return Proof(planned.mode, "not proven", planned.seed, time.monotonic() - begin, why=why)
    except Exception as error:  # a stranger's plugin may fail in any way
        seconds = time.monotonic() - begin
        return Proof(planned.mode, "not proven", planned.seed, seconds, why=f"{type(error).__name__}: {error}")


def _write(write_end: int, facts: Mapping[str, object]) -> None:
    data = json.dumps(facts).encode() + b"\n"
    while data:
        data = data[os.write(write_end, data) :]
