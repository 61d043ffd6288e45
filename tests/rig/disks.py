"""Disks: sparse files in memory behind loop devices."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from tests.rig.tools import run


@contextlib.contextmanager
def disk(directory: Path, mib: int) -> Iterator[str]:
    """Give a loop device of that size; it takes only the memory that is written to."""
    backing = directory / f"disk-{secrets.token_hex(3)}"
    with backing.open("wb") as file:
        file.truncate(mib << 20)
    try:
        device = run("losetup", "--find", "--show", "--nooverlap", str(backing)).strip()
        try:
            yield device
        finally:
            run("losetup", "--detach", device)
    finally:
        backing.unlink()


def loops() -> set[str]:
    """Return the loop devices that are in use, with what is behind them."""
    found = Path("/sys/block").glob("loop*/loop/backing_file")
    return {f"/dev/{path.parents[1].name} {path.read_text().strip()}" for path in found}
