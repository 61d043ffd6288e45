"""Part of the watchdog's process: has writers let go of a file system that is to be frozen.

Who writes to a file system holds it, for the kernel, until the call has ended; and some calls sleep meanwhile, for as
long as the feeder likes: splice(2) and sendfile(2) from an empty pipe, write(2) from memory behind a FUSE file
system. Every user may do that. The freeze waits for them, and all other writers wait for the freeze: the volume is
frozen, and borg-lvm, which waits in the kernel, can do nothing about it, nor does a signal reach it.

A call that sleeps such that a signal wakes it begins anew after SIGSTOP and SIGCONT, and waits for the freeze then as
everybody else. One that waits for a FUSE file system ends when that is aborted. What io_uring has started ends, before
Linux 6.10 or so, when its thread comes along again, which one that is stopped does not. Standard library only.
Source: fs/splice.c, fs/super.c, io_uring/rw.c; Documentation/filesystems/fuse.rst.
"""

import _signal as signal  # type: ignore[import-not-found]  # as in service.py
import ctypes
import os
import time
from _collections_abc import Collection, Iterable, Iterator

CONNECTIONS = "/sys/fs/fuse/connections"
LOOKS, PAUSE = 4, 0.15
"""How often, and with how many seconds between, a request to a FUSE file system must be seen to wait."""
MOMENT = 0.1
"""Seconds that stopped processes get to come along."""
AT_ONCE = 100
"""How many of them do so together."""
LIBC = ctypes.CDLL(None, use_errno=True)

writers = __import__("writers")  # as in service.py


def loosen(devices: Collection[int], marks: Collection[int] = (), *, abort: bool) -> None:
    """Wake every call that sleeps while it writes to one of these file systems (`st_dev`); `marks` as of `Targets`.

    With `abort` also those that wait for a file system in user space: requests to one of the same user are aborted; and
    those that are stopped, while the kernel waits for them.
    """
    if not devices:
        return
    on = writers.Targets(frozenset(devices), frozenset(marks))
    leased, woken, stopped = on.are_leased(), set(), set()
    for pid, tid in writers.tasks():
        try:
            state = writers.state(tid)
            if state == "S" and pid not in woken and writers.sleeps(pid, tid, on, late=abort, leased=leased):
                _wake(pid, tid)
                woken.add(pid)
            elif abort and state == "D" and writers.writes_to(pid, tid, on, late=True):
                uid = os.stat("/proc/" + pid).st_uid
                _abort([one for one in _waited_for() if one[1] == uid])
            elif abort and state == "T" and (os.stat("/proc/" + pid).st_uid or writers.begun_by_ring(pid, on)):
                stopped.add(pid)
        except (OSError, ValueError):
            pass  # it has ended
    pids = list(stopped)
    for at in range(0, len(pids), AT_ONCE):
        _let_run(pids[at : at + AT_ONCE])


def _wake(pid: str, tid: str) -> None:
    """Stop and continue a process of which a task sleeps. Raises: OSError when it has ended.

    By a descriptor: its number may be another's by the second signal, who would stay stopped.
    """
    process = os.pidfd_open(int(pid))
    try:
        if writers.state(tid) == "S":
            for number in (signal.SIGSTOP, signal.SIGCONT):
                signal.pidfd_send_signal(process, number)
    finally:
        os.close(process)


def _let_run(pids: Iterable[str]) -> None:
    """Have stopped processes come along for a moment: by what they may have begun is not to be seen."""
    running = []
    for pid in pids:
        try:
            process = os.pidfd_open(int(pid))
            if writers.state(pid) == "T":
                signal.pidfd_send_signal(process, signal.SIGCONT)
                running.append(process)
            else:
                os.close(process)
        except OSError:
            pass  # it has ended
    time.sleep(MOMENT)
    for process in running:
        try:
            signal.pidfd_send_signal(process, signal.SIGSTOP)
        except OSError:
            pass  # it has ended
        os.close(process)


def insist(devices: Collection[int], marks: Collection[int] = ()) -> None:
    """Have those let go who hold one of these file systems in a way that `loosen` does not see.

    They may write as another of their users, by a worker of an io_uring, or wait for a directory that a third one reads
    into such memory. So each FUSE connection of a user's is aborted at which somebody has waited all the time, but
    root's; and a user's process is killed that has begun to write by io_uring, and is kept by who traces it.
    """
    stuck = set(_waited_for())
    for _ in range(LOOKS - 1):
        time.sleep(PAUSE)
        stuck &= set(_waited_for())
    _abort(stuck)
    if not devices:
        return
    on = writers.Targets(frozenset(devices), frozenset(marks))
    traced = [(pid, tid, writers.runs(tid)) for pid, tid in writers.tasks() if _may_be_kept(pid, tid, on)]
    if traced:
        time.sleep(MOMENT)
    for pid, tid, before in traced:
        try:
            _end_traced(pid, tid, on, before)
        except (OSError, ValueError):
            pass  # it has ended


def _may_be_kept(pid: str, tid: str, on: object) -> bool:
    """Return whether a task is stopped by who traces it, and may have begun to write to one of these."""
    try:
        return bool(writers.state(tid) == "t" and writers.begun_by_ring(pid, on))
    except (OSError, ValueError):
        return False  # it has ended


def _end_traced(pid: str, tid: str, on: object, before: str) -> None:
    """Kill a user's process that is kept where it was. Raises: OSError when it has ended.

    One that is traced call by call (strace) has run meanwhile, and come to the end of what it had begun.
    """
    process = os.pidfd_open(int(pid))  # its number may soon be another's
    try:
        user, same = os.stat("/proc/" + pid).st_uid, _may_be_kept(pid, tid, on) and writers.runs(tid) == before
        if user and same:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            _report("killed process " + pid + ", which a debugger keeps in the middle of a write")
    finally:
        os.close(process)


def _waited_for() -> Iterator[tuple[str, int]]:
    """Yield the FUSE connections of users, not root's, at which somebody waits: a directory, and the user's number."""
    try:
        _see_connections()
    except OSError:
        pass  # then what is there is examined
    for name in os.listdir(CONNECTIONS):
        directory = CONNECTIONS + "/" + name
        try:
            with open(directory + "/waiting", "rb") as file:
                waiting = file.read().strip() != b"0"
            uid = os.stat(directory).st_uid
        except OSError:
            continue  # it has gone
        if waiting and uid:
            yield directory, uid


def _abort(connections: Iterable[tuple[str, int]]) -> None:
    for directory, uid in connections:
        try:
            with open(directory + "/abort", "wb") as file:
                file.write(b"1")
            number = directory.rpartition("/")[2]
            _report(
                "aborted FUSE connection " + number + " of user " + str(uid) + ", for which writers may have waited"
            )
        except OSError:
            pass  # it has gone


def _report(text: str) -> None:
    """Write it into the kernel's log, which needs no disk."""
    try:
        log = os.open("/dev/kmsg", os.O_WRONLY)
        os.write(log, b"<4>borg-lvm: a volume could not be frozen by its deadline: " + text.encode() + b"\n")
        os.close(log)
    except OSError:
        pass  # a container has none


def _see_connections() -> None:
    """Mount what shows them, for this process alone, where nobody has. Raises: OSError."""
    if os.path.ismount(CONNECTIONS):
        return
    new, private = 0x20000, 0x4000 | 0x40000  # CLONE_NEWNS; MS_REC, MS_PRIVATE
    if LIBC.unshare(new) or LIBC.mount(b"none", b"/", None, ctypes.c_ulong(private), None):
        raise OSError(ctypes.get_errno(), "unshare")
    if LIBC.mount(b"fusectl", CONNECTIONS.encode(), b"fusectl", ctypes.c_ulong(0), None):
        raise OSError(ctypes.get_errno(), "mount")
