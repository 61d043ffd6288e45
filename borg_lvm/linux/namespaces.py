"""The view's mount namespace, and doing something in it after the command has ended, without going there ourselves."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

from borg_lvm.errors import UsageError
from borg_lvm.linux import syscalls
from borg_lvm.records import dataclass

LONGEST = 300.0
"""Seconds that work in a child may take: mounting a snapshot replays a journal, on a slow disk."""
_SAME, _OTHER = "same", "other"


@dataclass(frozen=True)
class ViewNamespace:
    """The view that the command will see: a descriptor of its mount namespace, and its snapshots' devices (`st_dev`).

    `shown` has what is to be bound, on what, so that the snapshots are seen at their usual paths; nothing if they are.
    """

    namespace: int
    devices: tuple[int, ...]
    shown: tuple[tuple[str, str], ...] = ()


def number(pid: int | str = "self") -> int:
    """Return the number of a process's mount namespace. Raises: OSError when the process has ended."""
    return os.stat(f"/proc/{pid}/ns/mnt").st_ino


def is_first() -> bool:
    """Whether we are in the mount namespace of the server's first process. Raises: OSError where nobody can see it."""
    return number() == number(1)


def refuse_chroot() -> None:
    """Raise UsageError in a plain chroot: a process that enters a mount namespace gets its root, with other paths.

    The ledgers and locks of a chroot are not those of the server either, so two runs would not see each other.
    """
    if is_chroot():
        raise UsageError(
            "this is a chroot: the view of a run cannot be checked from here, and its state in /run is not the "
            "server's; nothing was done",
            remedy="call borg-lvm outside of it; or make its directory the root of a mount namespace, as "
            "systemd-nspawn and pivot_root do",
        )


def is_chroot() -> bool:
    """Whether our root is not the root of our mount namespace."""
    with suppress(OSError):
        if is_first() and _root("/") == _root("/proc/1/root"):
            return False
    return apart(_compared) == _OTHER


def _compared() -> str:
    here = _root("/")
    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    fdinfo = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.setns(fd, syscalls.CLONE_NEWNS)  # which takes us to its root
    return _SAME if _root("/", fdinfo) == here else _OTHER


def _root(path: str, fdinfo: int | None = None) -> tuple[int, int, str]:
    """Return device and inode of a directory, and the number of its mount; `fdinfo` is a descriptor of ours."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = str(fd) if fdinfo is not None else f"/proc/self/fdinfo/{fd}"
        with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=fdinfo), encoding="ascii") as file:
            mount = next((line for line in file if line.startswith("mnt_id:")), "")
        info = os.fstat(fd)
    finally:
        os.close(fd)
    return info.st_dev, info.st_ino, mount


def make_own() -> None:
    """Give this process a mount namespace of its own; what is mounted there is seen nowhere else. Raises: OSError."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)


def inside(namespace: int, work: Callable[[], str]) -> str | None:
    """Do `work` in a thread that enters the namespace, and return its answer; None if it failed.

    Its root and working directory are the namespace's root; /proc/self is us, in our own namespace. It only looks, and
    changes nothing of ours. None also if it took longer than LONGEST: then the thread waits on, `is_kept` by it.
    A thread, for a copy of us (fork) takes as long as a program of LVM's.
    """
    answers: list[str] = []

    def there() -> None:
        with suppress(Exception):
            syscalls.unshare(syscalls.CLONE_FS)
            home = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.setns(namespace, syscalls.CLONE_NEWNS)
                answer = work()
            finally:
                syscalls.setns(home, syscalls.CLONE_NEWNS)  # the kernel may take its time to end a thread
                os.close(home)
            answers.append(answer)

    thread = threading.Thread(target=there, daemon=True)
    thread.start()
    thread.join(LONGEST)
    return next(iter(answers), None)


def is_kept(namespace: int) -> bool:
    """Whether a thread of ours, which `inside` has given up, keeps the namespace."""
    inode = os.fstat(namespace).st_ino
    for name in os.listdir("/proc/self/task"):
        with suppress(OSError):  # it has ended
            if number(f"self/task/{name}") == inode:
                return True
    return False


def apart(work: Callable[[], str]) -> str | None:
    """Do `work` in a child, and return its answer, which must fit into a pipe (64 KiB).

    None if it failed, or took longer than LONGEST: a path may lead to a file system that does not answer.
    """
    answer, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.write(write_end, os.fsencode(work()))
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(answer, "rb") as pipe:
        if select.select([pipe], [], [], LONGEST)[0]:
            text = os.fsdecode(pipe.read())
        else:
            os.kill(pid, signal.SIGKILL)
            text = ""
    return text if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 else None
