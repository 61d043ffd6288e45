"""Reads the command lines of restic: `restic backup`, with its lists of files.

A run of any other command asks, too: what reads them (`reading.py` and what that imports) is imported for restic alone.
"""

from __future__ import annotations

import re

from borg_lvm.plugin_api import Invocation, Marked, ReadBack, Reading, Tainted, hookimpl


def is_restic(program: str) -> bool:
    """Return whether a program of this name is restic: `restic`, a released file as `restic_0.18.0_linux_amd64`."""
    return re.fullmatch(r"restic(_\d[\w.]*)?", program) is not None


@hookimpl
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Read `restic … backup …`."""
    if not is_restic(invocation.program):
        return None
    from borg_lvm_hooks.commands.restic import reading

    return reading.read(invocation)


@hookimpl
def borg_lvm_taint(invocation: Invocation, tainted: Tainted) -> Marked | None:
    """Mark the snapshot that `restic backup` has made."""
    if not is_restic(invocation.program):
        return None
    from borg_lvm_hooks.commands.restic import reading

    return reading.mark(invocation, tainted)


@hookimpl
def borg_lvm_read_back(invocation: Invocation) -> ReadBack | None:
    """Read back the snapshot that `restic backup` makes."""
    if not is_restic(invocation.program):
        return None
    from borg_lvm_hooks.commands.restic import reading

    return reading.read_back(invocation)
