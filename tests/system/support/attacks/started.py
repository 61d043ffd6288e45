"""Attacks that several tests have going on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SCRIPT = Path(__file__).parent / "unanswered.py"


@contextmanager
def unanswered(gate: Path, how: str, *program: Path) -> Iterator[None]:
    """Have a user have a file open of which nobody gets the attributes from when there is a file `gate`."""
    argv: list[str | Path] = ["/usr/bin/python3", "-I", SCRIPT, how, gate, *program]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True, cwd="/") as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"holds\n"
            yield
            assert process.poll() is None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
