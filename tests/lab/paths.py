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
def turn() -> Iterator[None]:
    """Wait until fewer guests run than there are processors: one that starves fails by its time limits."""
    LAB.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        slots = [stack.enter_context((LAB / f"guest{number}.lock").open("w")) for number in range(os.cpu_count() or 1)]
        told = False
        while not any(_taken(slot) for slot in slots):
            if not told:
                print("lab: waiting for other guests to end", flush=True)
            told = True
            time.sleep(1)
        yield


def _taken(slot: TextIO) -> bool:
    try:
        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
