"""Processes that outlive the command inside its view, and letting go of the view in spite of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from borg_lvm import kernel
from borg_lvm.ledger import start_time
from borg_lvm.log import Log
from borg_lvm.view import Step

PATIENCE = 2.0
"""Seconds between asking a process to end and forcing it."""


@dataclass(frozen=True)
class Process:
    """A process, safe against its number being given to another."""

    pid: int
    start: int
    name: str

    def kill(self, signum: int) -> None:
        """Send a signal, if it is still the same process."""
        if start_time(self.pid) == self.start:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)


def find(belongs: Callable[[int], bool]) -> list[Process]:
    """Return the processes, but us, for which `belongs(pid)` holds; those that vanish meanwhile are left out."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            pid = int(name)
            start = start_time(pid)
            if start is not None and belongs(pid):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    found.append(Process(pid, start, file.read().strip()))
    return found


def in_namespace(namespace: int) -> list[Process]:
    """Return the processes in the mount namespace that the descriptor stands for."""
    inode = os.fstat(namespace).st_ino
    return find(lambda pid: os.stat(f"/proc/{pid}/ns/mnt").st_ino == inode)


def end(processes: Callable[[], Sequence[Process]], log: Log, why: str) -> None:
    """End processes: ask, wait, force. Each is named in the log."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        found = processes()
        if not found:
            return
        names = ", ".join(f"{process.name} ({process.pid})" for process in found)
        log.warning(f"{why}: sending {signum.name} to {names}")
        for process in found:
            process.kill(signum)
        deadline = time.monotonic() + PATIENCE
        while processes() and time.monotonic() < deadline:
            time.sleep(0.05)


def let_go(namespace: int, mounted: Sequence[Step], log: Log) -> None:
    """Unmount the view and close its descriptor; processes that use a snapshot are ended, others live on.

    `mounted` are the view's mounts in the order in which they were made. When the command has left no process behind,
    closing the descriptor is all: the kernel unmounts the whole namespace before it returns.
    """
    try:
        left = in_namespace(namespace)
        if left and not _unmounted(namespace, mounted):
            end(lambda: in_namespace(namespace), log, "still using a snapshot after the command has ended")
    finally:
        os.close(namespace)


def _unmounted(namespace: int, mounted: Sequence[Step]) -> bool:
    """Unmount the view inside its namespace, by a child that enters it; tell whether all of it could be.

    A hole is live and may stay in use: it is only taken out of the way. A cover must really be gone.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            kernel.setns(namespace, kernel.CLONE_NEWNS)
            for step in reversed(mounted):
                kernel.umount(step.target, kernel.MNT_DETACH if step.kind == "hole" else 0)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
