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


@contextlib.contextmanager
def turn() -> Iterator[int]:
    """Wait for a processor that no other guest has, and give its number: a guest that starves fails by time limits."""
    LAB.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        names = {number: LAB / f"guest{number}.lock" for number in sorted(os.sched_getaffinity(0))}
        slots = {number: stack.enter_context(name.open("w")) for number, name in names.items()}
        told = False
        while (processor := next((number for number, slot in slots.items() if _taken(slot)), None)) is None:
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
