"""The watchdog's start: every run waits for it, and every module of it is read, and locked in memory, once more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from borg_lvm.watchdog import client

DEAR = {"enum", "signal", "contextlib", "collections", "functools", "importlib.util", "typing"}


@pytest.mark.process
def test_the_watchdog_starts_with_few_modules() -> None:
    """It ends with an error where there is no device-mapper, when all of its modules are loaded."""
    # Python 3.13 imports a dozen modules to show a traceback.
    program = (
        f"import sys\nsys.excepthook = lambda *_: print('Traceback', file=sys.stderr)\n__file__ = {client.PROGRAM!r}\n"
    )
    program += Path(client.PROGRAM).read_text(encoding="utf-8")
    argv = [sys.executable, "-I", "-S", "-X", "importtime", "-c", program]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    before, _, _ = done.stderr.partition("Traceback")
    names = {line.rpartition("|")[2].strip() for line in before.splitlines() if line.startswith("import time:")}
    assert {"service", "frozen", "loosen", "writers", "ctypes"} <= names, done.stderr
    assert names & DEAR == set()
