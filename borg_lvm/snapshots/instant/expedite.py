"""Quick grace periods of RCU for the length of a window: each suspend and resume waits for one, 60 to 90 ms else.

Source: Documentation/RCU/ (`/sys/kernel/rcu_expedited`). A kernel for one processor has none to wait for, and a
real-time kernel refuses; then the window is as long as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from borg_lvm.errors import BorgLvmError
from borg_lvm.state import locks
from borg_lvm.state.ledger import Ledger
from borg_lvm.watchdog.client import Watchdog

PATH = "/sys/kernel/rcu_expedited"
OFF, ON = b"0", b"1"


@contextmanager
def ready(watch: Watchdog, ledger: Ledger) -> Iterator[int | None]:
    """Give a descriptor to switch by, or None where that is not available; whatever happens, it is off in the end.

    One run at a time switches: it must find what was there before any of them.
    """
    fd, lock = _opened(), None
    try:
        with suppress(BorgLvmError):  # a full /run: then the window is as long as it is
            lock = locks.opened("rcu_expedited", "the kernel's grace periods")
        if fd is None or lock is None or not locks.taken(lock):
            yield None
            return
        ledger.write("expedited")
        watch.may_expedite(PATH)
        try:
            yield fd
        finally:
            switch(fd, OFF)
            with suppress(BorgLvmError):  # a full /run
                ledger.write("unexpedited")
    finally:
        for opened in (fd, lock):
            if opened is not None:
                os.close(opened)


def switch(fd: int | None, value: bytes) -> None:
    """Write a value; a kernel that does not take it goes on as it was."""
    if fd is not None:
        with suppress(OSError):
            os.pwrite(fd, value, 0)


def end() -> None:
    """Switch off what a dead run may have left on."""
    with suppress(OSError):
        fd = os.open(PATH, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, OFF, 0)
        finally:
            os.close(fd)


def _opened() -> int | None:
    """Open the switch, unless somebody else has it on already, or there is none."""
    with suppress(OSError):
        fd = os.open(PATH, os.O_RDWR | os.O_CLOEXEC)
        with suppress(OSError):
            if os.pread(fd, 16, 0).strip() == OFF:
                os.pwrite(fd, OFF, 0)  # a kernel that does not let itself be switched says so now
                return fd
        os.close(fd)
    return None
