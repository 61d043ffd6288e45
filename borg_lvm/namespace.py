"""The view's mount namespace, and doing something in it after the command has ended, without going there ourselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from borg_lvm import kernel


@dataclass(frozen=True)
class View:
    """The view that the command will see: a descriptor of its mount namespace, and its copies' devices (`st_dev`).

    `shown` has what is to be bound, on what, so that the copies are seen at their usual paths; nothing if they are.
    """

    namespace: int
    devices: tuple[int, ...]
    shown: tuple[tuple[str, str], ...] = ()


def number(pid: int | str = "self") -> int:
    """Return the number of a process's mount namespace. Errors: OSError when the process has ended."""
    return os.stat(f"/proc/{pid}/ns/mnt").st_ino


def is_first() -> bool:
    """Whether we are in the mount namespace of the server's first process. Errors: OSError where nobody tells."""
    return number() == number(1)


def make_own() -> None:
    """Give this process a mount namespace of its own; what is mounted there is seen nowhere else. Errors: OSError."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)


def inside(namespace: int, work: Callable[[], str]) -> str | None:
    """Do `work` in a child that enters the namespace, and return its answer; None if it failed.

    The child's root and working directory are the namespace's root. Its answer must fit into a pipe (64 KiB).
    """

    def there() -> str:
        kernel.setns(namespace, kernel.CLONE_NEWNS)
        return work()

    return apart(there)


def apart(work: Callable[[], str]) -> str | None:
    """Do `work` in a child, and return its answer, which must fit into a pipe (64 KiB); None if it failed."""
    answer, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.write(tell, os.fsencode(work()))
            status = 0
        finally:
            os._exit(status)
    os.close(tell)
    with os.fdopen(answer, "rb") as pipe:
        text = os.fsdecode(pipe.read())
    return text if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 else None
