"""Asks a borg which release it is: once, and only where a command line means different things to different releases."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import time
from contextlib import suppress
from functools import cache

from borg_lvm.plugin_api import Invocation, above, subprocesses
from borg_lvm_hooks.commands.borg import option_tables

STRIPS_PREFIXES = (1, 4, 0, 0)
"""The first release that takes PREFIX off paths that are given as `PREFIX/./REST`."""
LONGEST = 1000
TIMEOUT = 30.0
"""Seconds: a busy disk may take its time to load a Python program."""


def ask(invocation: Invocation) -> option_tables.Release | None:
    """Return the release of the borg that this command line starts, None if it does not say."""
    path = program(invocation)
    try:
        known = os.stat(path) if path else None
    except (OSError, ValueError):
        known = None
    if not (path and known):
        return None
    owner = _who_may_change(path)
    return None if owner is None else _ask(path, known.st_ino, known.st_mtime_ns, owner)


def strips_prefixes(invocation: Invocation) -> bool | None:
    """Whether the borg that a command line starts knows `PREFIX/./REST`; None if it does not say which it is."""
    release = ask(invocation)
    return None if release is None else release >= STRIPS_PREFIXES


def _who_may_change(path: str) -> int | None:
    """Return the user, other than root and us, who may put another program there; us if none may; None if all may."""
    real = os.path.realpath(path)
    try:
        steps = [os.lstat(step) for step in dict.fromkeys((path, *above(path), real, *above(real)))]
    except OSError:
        return None
    for info in steps:
        everybody = info.st_mode & 0o002 and not info.st_mode & stat.S_ISVTX
        if everybody and not stat.S_ISLNK(info.st_mode):
            return None
    return next((info.st_uid for info in steps if info.st_uid not in (0, os.geteuid())), os.geteuid())


def program(invocation: Invocation) -> str | None:
    """Return the path of the program that a command line starts, None if there is none."""
    import shutil

    name = invocation.argv[0]
    try:
        if "/" in name:
            return shutil.which(invocation.absolute(name))
        return shutil.which(name, path=invocation.env.get("PATH", os.defpath))
    except ValueError:  # a NUL
        return None


def _said(process: subprocess.Popen[bytes]) -> bytes:
    """Return the first LONGEST bytes that a program prints within TIMEOUT seconds: it may be a stranger's."""
    assert process.stdout
    end, said = time.monotonic() + TIMEOUT, b""
    while len(said) < LONGEST and select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
        part = os.read(process.stdout.fileno(), LONGEST)
        if not part:
            break
        said += part
    return said[:LONGEST]


@cache
def _ask(path: str, inode: int, changed: int, owner: int) -> option_tables.Release | None:
    """Ask the program at a path, as its owner: what belongs to a user is not run as root before the run itself."""
    user = subprocesses.Account.of(owner) if owner != os.geteuid() else None
    try:
        with subprocesses.talking([path, "--version"], user=user) as process:
            try:
                said = _said(process)
            finally:
                with suppress(ProcessLookupError):  # it has ended, as it should
                    os.killpg(process.pid, signal.SIGKILL)
    except (OSError, subprocesses.ProgramError, subprocess.TimeoutExpired):
        return None
    words = os.fsdecode(said).split()
    return option_tables.release(words[-1]) if words else None
