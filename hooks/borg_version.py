"""Asks a borg which release it is: once, and only where a command line means different things to different releases."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import cache

from borg_lvm import proc
from borg_lvm.command import Invocation

from . import borg_options

TIMEOUT = 30.0
"""Seconds: a busy disk may take its time to load a Python program."""


def ask(invocation: Invocation) -> borg_options.Release | None:
    """Return the release of the borg that this command line starts, None if it does not say."""
    path = program(invocation)
    try:
        known = os.stat(path) if path else None
    except (OSError, ValueError):
        known = None
    return _ask(path, known.st_ino, known.st_mtime_ns, known.st_uid) if path and known else None


def program(invocation: Invocation) -> str | None:
    """Return the path of the program that a command line starts, None if there is none."""
    name = invocation.argv[0]
    try:
        if "/" in name:
            return shutil.which(invocation.absolute(name))
        return shutil.which(name, path=invocation.env.get("PATH", os.defpath))
    except ValueError:  # a NUL
        return None


@cache
def _ask(path: str, inode: int, changed: int, owner: int) -> borg_options.Release | None:
    """Ask the program at a path, as its owner: what belongs to a user is not run as root before the run itself."""
    user = proc.Account.of(owner) if owner != os.geteuid() else None
    try:
        with proc.talking([path, "--version"], user=user) as process:
            try:
                said, _ = process.communicate(timeout=TIMEOUT)
            finally:
                with suppress(ProcessLookupError):  # it has ended, as it should
                    os.killpg(process.pid, signal.SIGKILL)
    except (OSError, proc.ProgramError, subprocess.TimeoutExpired):
        return None
    words = os.fsdecode(said[:1000]).split()
    return borg_options.release(words[-1]) if words else None
