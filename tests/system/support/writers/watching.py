"""Volumes with something on them, and writers that fill their snapshots."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.rig.volumes import Volume
from tests.system.support.runs.live import Run

MIB = 1 << 20


def filled(volume: Volume, files: int = 8) -> Path:
    """Put files of a MiB on a volume and return where it is mounted."""
    assert volume.at
    for number in range(files):
        (volume.at / f"file{number}").write_bytes(os.urandom(MIB))
    os.sync()
    return volume.at


def overwrite(at: Path, mib: int, pause: float = 0.0, until: Callable[[], bool] = lambda: False) -> None:
    """Write so much to a new file of the volume, a MiB at a time, each synced, or until there is no need any more."""
    with (at / "busy").open("r+b" if (at / "busy").exists() else "wb", buffering=0) as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
            os.fsync(file.fileno())
            time.sleep(pause)
            if until():
                return


def ended(running: Run) -> Callable[[], bool]:
    """Return what tells whether a run has ended."""
    return lambda: running.process.poll() is not None
