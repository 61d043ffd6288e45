"""Ending the command and what it has left in the view, and letting go of the view in spite of that."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Sequence

from borg_lvm.linux import namespaces, processes, safe_mount, syscalls
from borg_lvm.log import Log
from borg_lvm.snapshots import users
from borg_lvm.view.mounting import Step

COMMAND_PATIENCE = 10.0
"""The same for the command: a backup program lets go of its repository first."""


class Terminator:
    """Ends the command and all else in its view, while somebody else waits for it: asks, and later forces."""

    def __init__(self, pid: int, namespace: int) -> None:
        self._pid = pid
        self._inode = os.fstat(namespace).st_ino
        self._asked: float | None = None
        self.forced = False

    def go_on(self) -> None:
        """Do what is to be done now. To be called again and again."""
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
            self._send(signal.SIGTERM)
        elif now - self._asked > COMMAND_PATIENCE:
            self.forced = True
            self._send(signal.SIGKILL)

    def _send(self, signum: int) -> None:
        for process in processes.find(self._belongs):
            process.kill(signum)

    def _belongs(self, pid: int) -> bool:
        return pid == self._pid or namespaces.number(pid) == self._inode


def let_go(namespace: int, mounted: Sequence[Step], devices: frozenset[int], log: Log) -> None:
    """Unmount the view and close its descriptor; processes that use a snapshot are ended, others live on.

    `mounted` are the view's mounts in the order in which they were made, `devices` those of its snapshots. When the
    command has left no process behind, closing the descriptor is all: the kernel unmounts the whole namespace before
    it returns.
    """
    try:
        left = processes.in_namespace(namespace) or namespaces.is_kept(namespace)
        if left and not _unmounted(namespace, mounted):
            why = "still using a snapshot after the command has ended"
            processes.end(lambda: processes.users(namespace, devices), log, why)
            if processes.in_namespace(namespace) and not _unmounted(namespace, mounted):
                processes.end(lambda: processes.in_namespace(namespace), log, why)
    finally:
        os.close(namespace)
    users.end_viewers(devices, log, "copies of the view live on in other namespaces")
    users.end_holders(devices, log)


def _unmounted(namespace: int, mounted: Sequence[Step]) -> bool:
    """Unmount the view inside its namespace; return whether all of it could be.

    A live path is live and may stay in use: it is only taken out of the way. A frozen path must really be gone.
    """

    def work() -> str:
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        for step in reversed(mounted):
            _unmount(step)
        return ""

    return namespaces.apart(work) is not None


def _unmount(step: Step) -> None:
    try:
        safe_mount.unmount(step.target, syscalls.MNT_DETACH if step.kind == "live" else 0)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted (any more): an earlier try has done it
            raise
