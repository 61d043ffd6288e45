"""udev, as every server runs it; the lab's guests have none until a test asks for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.rig.tools import run

PROGRAM = "/lib/systemd/systemd-udevd"
CONTROL = Path("/run/udev/control")
PATIENCE = 60.0  # seconds


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Run udev until the end of the block; LVM then waits for it, and it makes the device nodes."""
    before = os.environ.pop("DM_DISABLE_UDEV", None)
    try:
        if CONTROL.exists():  # the machine has its own
            yield
            return
        with subprocess.Popen([PROGRAM], stdin=subprocess.DEVNULL) as daemon:
            try:
                _wait()
                yield
                run("udevadm", "settle")
            finally:
                daemon.terminate()
                daemon.wait()
                CONTROL.unlink(missing_ok=True)
    finally:
        if before is not None:
            os.environ["DM_DISABLE_UDEV"] = before


def _wait() -> None:
    end = time.monotonic() + PATIENCE
    while not CONTROL.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{PROGRAM} did not come up within {PATIENCE:g} s")
        time.sleep(0.05)
    run("udevadm", "settle")
