"""Where the lab keeps its things."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

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
