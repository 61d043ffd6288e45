"""Runs the set-up's commands: what they write goes into a log; it is named, and its end shown, if one of them fails."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.lab.paths import LAB

LOG = LAB / "setup.log"
SHOWN = 15  # lines of the log's end that a failure shows


def begin() -> None:
    """Begin a new log."""
    LOG.unlink(missing_ok=True)


def logged(command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Run a command whose output is of interest only if it fails.

    Raises: SystemExit with the end of the log.
    """
    with LOG.open("a") as log:
        log.write(f"\n$ {shlex.join(command)}\n")
        log.flush()
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", **(env or {})}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=quiet, check=False)
    if done.returncode:
        end = "\n".join(f"  {line}" for line in LOG.read_text(errors="replace").splitlines()[-SHOWN:])
        sys.exit(f"setup: {command[0]} failed with status {done.returncode}; the whole log is {LOG}, its end:\n{end}")
