"""Disks: sparse files in memory behind loop devices."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

# ioctl(2) of loop(4), as losetup does it, without a program to start.
LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LOOP_CLR_FD = 0x4C01
CONFIGURATION = 304  # bytes of struct loop_config: after the file's descriptor all is zero


@contextlib.contextmanager
def disk(directory: Path, mib: int) -> Iterator[str]:
    """Give a loop device of that size; it takes only the memory that is written to."""
    backing = directory / f"disk-{secrets.token_hex(3)}"
    with backing.open("wb") as file:
        file.truncate(mib << 20)
    try:
        device = attached(backing)
        try:
            yield device
        finally:
            with open(device, "rb") as loop:
                fcntl.ioctl(loop, LOOP_CLR_FD)
    finally:
        backing.unlink()


def attached(backing: Path) -> str:
    """Attach a file to a free loop device and return that."""
    with open("/dev/loop-control", "rb") as control, backing.open("r+b") as file:
        while True:
            device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            try:
                with open(device, "r+b", buffering=0) as loop:
                    fcntl.ioctl(loop, LOOP_CONFIGURE, struct.pack("I", file.fileno()).ljust(CONFIGURATION, b"\0"))
            except OSError as error:
                if error.errno != errno.EBUSY:  # somebody else was faster
                    raise
            else:
                return device


def loops() -> set[str]:
    """Return the loop devices that are in use, with what is behind them."""
    found = Path("/sys/block").glob("loop*/loop/backing_file")
    listed = set()
    for path in found:
        with contextlib.suppress(OSError):  # one that goes just now
            listed.add(f"/dev/{path.parents[1].name} {path.read_text().strip()}")
    return listed
