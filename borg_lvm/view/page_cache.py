"""What the command reads of the snapshots is dropped from the page cache, in which it would push out others' pages.

The live files have pages of their own: nobody but the command ever wants those of the snapshots. fanotify reports each
file that was read or closed, and gives a descriptor of it; its pages are dropped by that (posix_fadvise(2)). It is
done by a process of its own, so that neither the command nor who monitors the snapshots waits for it. Volumes that are
read themselves are left to the kernel: of those nothing was seen to be reported.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from borg_lvm.linux import btrfs, safe_open, syscalls
from borg_lvm.log import Log

PACE = 0.03
"""Seconds between two looks, while something is read: until then the events of a file are one."""
WASTE = 8 << 20
"""Bytes a second that may be read in vain: with the pages that were read go those that the kernel has read ahead."""
Shown = Sequence[tuple[str, int]]
"""Paths in a view, each with the device number of the snapshot that it shows."""
InView = Callable[[Callable[[], str]], str | None]
"""Does a work in the view, in a child, and returns its answer; None if it failed."""
_READ = syscalls.FAN_ACCESS | syscalls.FAN_CLOSE_NOWRITE
_OPENED = os.O_RDONLY | os.O_NONBLOCK | os.O_NOATIME | getattr(os, "O_LARGEFILE", 0)
_EVENT = struct.Struct("=IBBHQii")
_AT_ONCE = 128 * _EVENT.size
"""Bytes of events that are read at once: each has an open descriptor."""


@contextmanager
def spared(shown: Shown, in_view: InView, log: Log) -> Iterator[None]:
    """Drop from the page cache, for the length of the block, what is read of the snapshots that a view shows.

    Where the kernel does not report what is read, the page cache is left to it, and the log says so.
    """
    pid = 0
    try:
        pid = _started(shown, in_view)
    except OSError as error:
        log.info(f"note: what the command reads stays in the page cache: {error}")
    try:
        yield
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _started(shown: Shown, in_view: InView) -> int:
    """Return the process that drops what is read. Raises: OSError."""
    queue = syscalls.fanotify(_OPENED)
    try:
        problem = in_view(lambda: _mark(queue, shown))
        if problem != "":
            raise OSError(problem or "the view cannot be entered")
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                _drop(queue, parent, pace(max(map(_read_ahead, {device for _, device in shown}), default=0)))
            finally:
                os._exit(1)
        return pid
    finally:
        os.close(queue)


def _mark(queue: int, shown: Shown) -> str:
    """Have reads of each snapshot reported; return what keeps us from it, nothing if nothing does."""
    try:
        for path, device in shown:
            with safe_open.path(path) as fd:
                if safe_open.identity(fd).device == device:  # else a volume that is read itself
                    # A subvolume's file system is the live one: there it is the mount, which is the view's alone.
                    kind = syscalls.FAN_MARK_MOUNT if btrfs.apart(device) else syscalls.FAN_MARK_FILESYSTEM
                    syscalls.fanotify_mark(queue, safe_open.magic(fd), _READ, kind)
    except OSError as error:
        return str(error)
    return ""


def pace(read_ahead: int) -> float:
    """Return the seconds between two looks, for so many bytes of read-ahead: twice that may be lost by each. Pure."""
    return max(PACE, 2 * read_ahead / WASTE)


def _read_ahead(device: int) -> int:
    """Return how many bytes the kernel reads ahead of a block device (`st_rdev`); 0 if it does not say."""
    try:
        with open(
            f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/queue/read_ahead_kb", encoding="ascii"
        ) as file:
            return int(file.read()) << 10
    except (OSError, ValueError):
        return 0


def _drop(queue: int, parent: int, seconds: float) -> NoReturn:
    """Drop what is reported, that often, until we are killed, at the latest by our parent's death."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.closerange(0, queue)
    os.closerange(queue + 1, os.sysconf("SC_OPEN_MAX"))
    while os.getppid() == parent:
        select.select([queue], [], [])
        time.sleep(seconds)
        for fd in _events(queue):
            with suppress(OSError):  # it is no file
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
    os._exit(1)


def _events(queue: int) -> Iterator[int]:
    """Yield a descriptor of each file that was read since the last look."""
    while True:
        try:
            data = os.read(queue, _AT_ONCE)
        except BlockingIOError:
            return
        except OSError:  # of an event whose file cannot be opened, which is gone with it
            continue
        for *_, fd, _ in _EVENT.iter_unpack(data):
            if fd >= 0:  # else: more was read than the queue holds
                yield fd
