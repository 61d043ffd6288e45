"""Where the lab keeps its things."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / ".lab"
OUT = LAB / "out"
GUEST = Path(__file__).resolve().parent / "guest"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time prepare something below ``.lab/``."""
    LAB.mkdir(exist_ok=True)
    with (LAB / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _slots() -> list[tuple[str, int]]:
    """Return names and processors of what guests take turns at: one more than there are processors.

    Tests wait for half of their time, so two guests of User Mode Linux fit on one; the last is for one in QEMU, which
    needs all of it and is started first.
    """
    processors = sorted(os.sched_getaffinity(0), reverse=True)
    return [(f"guest{number}", processor) for number, processor in enumerate([*processors, processors[-1]])]


@contextlib.contextmanager
def turn() -> Iterator[int]:
    """Wait for a processor that is not taken by other guests, and give its number: who starves fails by time limits."""
    LAB.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        slots = [(stack.enter_context((LAB / f"{name}.lock").open("w")), processor) for name, processor in _slots()]
        told = False
        while (processor := next((number for slot, number in slots if _taken(slot)), None)) is None:
            if not told:
                print("lab: waiting for other guests to end", flush=True)
            told = True
            time.sleep(1)
        yield processor


def _taken(slot: TextIO) -> bool:
    try:
        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
