"""Where the lab keeps its things."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / ".lab"
OUT = LAB / "out"
ZFS = LAB / "zfs"
ZFS_MODULES = ("spl.ko", "zfs.ko")
"""What `make zfs` builds for a kernel, in the directory of its release, in the order of loading."""
GUEST = Path(__file__).resolve().parent / "guest"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time prepare something below ``.lab/``."""
    LAB.mkdir(exist_ok=True)
    with (LAB / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


PER_PROCESSOR = 2
"""One waits while the other works; more than two gain nothing, for guests hardly wait."""

PER_GUEST = 1 << 30
"""Bytes of memory that a guest uses at most times; what it may use is much more, see `uml.MEMORY`."""


def places() -> int:
    """Return how many guests of User Mode Linux this machine has room for at a time."""
    return max(1, min(PER_PROCESSOR * len(os.sched_getaffinity(0)), memory() // PER_GUEST - 1))


def memory() -> int:
    """Return how many bytes of memory this machine has; in a container, how many it may use."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    known = [int(text) for path in limits if path.is_file() and (text := path.read_text().strip()).isdigit()]
    return min([installed, *known])


@contextlib.contextmanager
def turn(*, whole: bool) -> Iterator[int]:
    """Wait for room on a processor and give its number; `whole`: a guest in QEMU, which leaves no room for others.

    Guests that starve fail by time limits.
    """
    LAB.mkdir(exist_ok=True)
    processors = sorted(os.sched_getaffinity(0), reverse=True)
    # First the first place on each, so that two guests are not on one processor while another one is idle.
    single = [(processor, place) for place in range(PER_PROCESSOR) for processor in processors][: places()]
    wanted = [[place] for place in single]
    if whole:
        wanted = [[place for place in single if place[0] == processor] for processor in processors]
    reported = False
    with (LAB / "first.lock").open("w") as first:  # held by who waits for a whole processor: else others keep it busy
        if whole:
            fcntl.flock(first, fcntl.LOCK_EX)
        while True:
            if not whole:
                fcntl.flock(first, fcntl.LOCK_SH)
            for rooms in filter(None, wanted):
                with contextlib.ExitStack() as stack:
                    if all(_taken(stack, f"guest{processor}-{place}") for processor, place in rooms):
                        fcntl.flock(first, fcntl.LOCK_UN)
                        yield rooms[0][0]
                        return
            if not whole:
                fcntl.flock(first, fcntl.LOCK_UN)
            if not reported:
                print("lab: waiting for other guests to end", flush=True)
            reported = True
            time.sleep(1)


def _taken(stack: contextlib.ExitStack, name: str) -> bool:
    lock = stack.enter_context((LAB / f"{name}.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
