"""Processes that judge a restored application: in namespaces of their own, as the user whose the data is.

There are three of them. The outer one makes the namespaces, and waits; the second is the first process of the new
process namespace: it makes the new root, and takes in what loses its parent; when it ends, the kernel ends all others
there. The third has no capabilities and no way to gain one, and is the judge. Each dies with the one before it, and the
first with us: whatever kills us leaves no process, no mount and no network behind.

Outside, processes of the same user would come in by /proc/PID/root, and keep open what they see there. So the judge is
in a user namespace besides, in which everybody has the same number as outside: the kernel lets nobody come from one
into another (`cap_ptrace_access_check`, security/commoncap.c), and no program in it gets out again.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from borg_lvm.drill.sandbox.limits import SandboxGroup
from borg_lvm.drill.sandbox.root import SandboxRoot
from borg_lvm.linux import namespaces, syscalls
from borg_lvm.linux.signals import take_effect
from borg_lvm.linux.subprocesses import Account
from borg_lvm.records import dataclass

APART = syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
HOST = "borg-lvm-drill"
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h
PATIENCE = 10.0
"""Seconds in which processes go that the kernel has killed."""
NICENESS = 10
"""How much less of a busy processor it gets than the servers that go on."""


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that runs: its outer process, and the pipe by which the judge reports."""

    pid: int
    pipe: int


@contextmanager
def running(
    root: SandboxRoot, group: SandboxGroup, user: Account, directory: str, work: Callable[[int], object]
) -> Iterator[Sandbox]:
    """Have `work` done in a sandbox: it gets the descriptor of a pipe, and is in `directory`, a path of the sandbox.

    All of its processes are gone when the block ends. Raises: OSError.
    """
    results, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        _never_returns(lambda: _outer(root, group, user, directory, lambda: _judge(work, report)), report)
    os.close(report)
    try:
        yield Sandbox(pid, results)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _wait_for_the_others(results)
        os.close(results)


def _wait_for_the_others(pipe: int) -> None:
    """Wait until nobody has the other end of the pipe: then the others are gone, and their mounts with them."""
    end = time.monotonic() + PATIENCE
    while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0] and os.read(pipe, 1 << 16):
        pass


def _never_returns(work: Callable[[], object], report: int) -> NoReturn:
    """Do something in a child; what goes wrong is said on the pipe. Never returns and never raises."""
    try:
        work()
    except BaseException as error:
        with suppress(OSError):
            text = f"{type(error).__name__}: {error}".replace('"', "'").replace("\\", "/").replace("\n", " ")
            os.write(report, f'{{"why": "the sandbox cannot be made: {text}"}}\n'.encode())
    finally:
        os._exit(0)


def _outer(root: SandboxRoot, group: SandboxGroup, user: Account, directory: str, work: Callable[[], object]) -> None:
    parent = os.getppid()
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    os.setsid()
    group.enter()
    os.nice(NICENESS)
    take_effect()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    namespaces.make_own()
    syscalls.unshare(APART)
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.read(wait, 1):  # else it had died before that could be heard of
            _first(root, user, directory, work)
        return
    os.write(go, b"g")
    os.waitpid(pid, 0)


def _first(root: SandboxRoot, user: Account, directory: str, work: Callable[[], object]) -> None:
    """Make the root, start the judge, and wait for all that end."""
    _loopback_up()
    with suppress(PermissionError):  # a unit with ProtectHostname= may not, and need not
        socket.sethostname(HOST)
    os.umask(0o022)  # with that of a unit nobody but root could come to what is shown
    root.enter(user.uid)
    syscalls.leave_session_keyring()
    apart, mapped = os.pipe(), os.pipe()
    judge = os.fork()
    if judge == 0:
        is_apart = _is_apart()
        os.write(apart[1], b"1" if is_apart else b"0")
        if os.read(mapped[0], 1):
            _become(user, keep_out=not is_apart)
            os.chdir(directory)
            work()
        return
    if os.read(apart[0], 1) == b"1":
        _map(judge)
    os.write(mapped[1], b"1")
    while os.wait()[0] != judge:
        pass


def _is_apart() -> bool:
    """Be in a user namespace of our own, if we may: there may be none (user.max_user_namespaces)."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError:
        return False
    return True


def _map(pid: int) -> None:
    """Have everybody in the user namespace of a process be who they are outside. Raises: OSError."""
    syscalls.mount("proc", "/run", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    for name in ("uid_map", "gid_map"):
        with (
            open(f"/run/self/{name}", encoding="ascii") as ours,
            open(f"/run/{pid}/{name}", "w", encoding="ascii") as its,
        ):
            inside = [line.split() for line in ours]
            its.write("".join(f"{begin} {begin} {count}\n" for begin, _, count in inside))
    syscalls.umount("/run")


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0)))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def _judge(work: Callable[[int], object], report: int) -> None:
    """Do the work without what we have open: ledgers, locks, a terminal."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd != report:
            with suppress(OSError):  # that of the list itself
                os.close(fd)
    for _ in range(3):
        os.open("/dev/null", os.O_RDWR)
    work(report)


def _become(user: Account, *, keep_out: bool) -> None:
    """Be the user, with no capability and no way to get one.

    But for one that is good for nothing, to `keep_out` other processes of that user, who have not got it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kept = syscalls.CAP_BLOCK_SUSPEND if keep_out else None
    syscalls.drop_bounding_set(kept)
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    syscalls.drop_capabilities(kept)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # our environment has pass phrases; what it starts gets another
    os.umask(0o077)
