"""Has applications look at their snapshots before the command starts: each in a process of its own, in the view.

So no path has to be translated, what a plugin leaves behind goes with its process, and one that hangs can be killed.
All look at the same time: the snapshots are not watched yet, and nobody is to wait for long.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import NoReturn

from borg_lvm.linux import namespaces, processes, safe_mount, safe_open, syscalls
from borg_lvm.linux.namespaces import ViewNamespace
from borg_lvm.linux.signals import Signals
from borg_lvm.quiesce.managed_application import ManagedApplication
from borg_lvm.quiesce.timeouts import GRACE
from borg_lvm.records import dataclass
from borg_lvm.state.directories import STATE

SCRATCH = "size=256m,mode=0711"
"""The directory in memory that each gets for what it has to write. Other users may pass through it."""
LOOK_AGAIN = 0.2
MOST = 1 << 20
"""How many bytes an answer may have."""


def verify(members: Sequence[ManagedApplication], view: ViewNamespace, signals: Signals) -> None:
    """Have these applications look at their snapshots; each knows the result then.

    Raises: QuiesceError when a snapshot is wrong, unless the run may go on with it; InterruptedRunError.
    """
    with ExitStack() as stack:
        looks = [(managed, stack.enter_context(_begun(managed, view))) for managed in members]
        for managed, look in looks:
            answer = look.answer(signals)
            if answer is None:
                managed.judge([f"{managed.name}: the verifying process was ended before it had reported"])
            else:
                managed.verified = answer.right
                managed.judge(answer.wrong, answer.remedy)


@dataclass(frozen=True)
class Verification:
    """The result: what is right in the snapshot, or what is wrong with it and what to do; nothing without a check."""

    right: str = ""
    wrong: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True)
class Verifier:
    """A process that looks at a snapshot, the pipe that it answers by, and when (monotonic) it is killed."""

    pid: int
    pipe: int
    end: float

    def answer(self, signals: Signals) -> Verification | None:
        """Wait for its answer; None if there is none. Raises: InterruptedRunError."""
        data = b""
        while time.monotonic() < self.end and len(data) <= MOST:
            signals.check()
            if select.select([self.pipe], [], [], LOOK_AGAIN)[0]:
                more = os.read(self.pipe, 65536)
                if not more:
                    break
                data += more
        signals.check()
        try:
            return Verification(**json.loads(data))
        except ValueError:
            return None


@contextmanager
def _begun(managed: ManagedApplication, view: ViewNamespace) -> Iterator[Verifier]:
    """Start the process; it is gone in the end, and with it all that it has mounted."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _child(managed, view, write_end)
    os.close(write_end)
    try:
        yield Verifier(pid, read_end, time.monotonic() + managed.settings.deadline + GRACE)
    finally:
        os.close(read_end)
        _end(pid, view)


def _end(pid: int, view: ViewNamespace) -> None:
    """End the process, and what it has started: that is in the namespace which it has made for itself."""
    inode = namespaces.number()
    with suppress(OSError):  # it may have ended, and what it has started may not
        inode = namespaces.number(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if inode not in (namespaces.number(), os.fstat(view.namespace).st_ino):
        processes.kill_all_in(inode)


def _child(managed: ManagedApplication, view: ViewNamespace, write_end: int) -> NoReturn:
    """Enter the view, look, and report. Never returns and never raises."""
    try:
        parent = os.getppid()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            os.setsid()  # a terminal's signals are for the run
            syscalls.setns(view.namespace, syscalls.CLONE_NEWNS)
            os.write(write_end, json.dumps(asdict(_look(managed, view))).encode())
    finally:
        os._exit(0)


def _look(managed: ManagedApplication, view: ViewNamespace) -> Verification:
    namespaces.make_own()
    for source, target in view.shown:
        safe_mount.bind_path(source, target)
    if not all(_shows_snapshot(data.path, view.devices) for data in managed.probe.paths):
        return Verification()
    # Over our own directory, which a plugin has no use for.
    syscalls.mount("borg-lvm", STATE, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC, SCRATCH)
    right: list[str] = []
    look = partial(managed.application.verify, STATE)
    error = managed.failure("verifying", managed.settings.deadline, lambda: right.append(look()))
    return Verification("", (error.message, *error.details), error.remedy) if error else Verification(right[0] or "")


def _shows_snapshot(path: str, devices: Sequence[int]) -> bool:
    """Return whether a path shows a snapshot. It may be saved and not do so: if it is read by another path."""
    return safe_open.device_behind(path) in devices
