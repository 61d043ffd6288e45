"""Reads the command lines of BorgBackup: `borg create` of every release from 1.1 to the pre-releases of 2.

A run of any other command asks, too: what reads them (`reading.py` and what that imports) is imported for borg alone.
"""

from __future__ import annotations

import re

from borg_lvm.plugin_api import Invocation, Marked, ReadBack, Reading, Tainted, hookimpl


def is_borg(program: str) -> bool:
    """Return whether a program of this name is BorgBackup: `borg`, `borg2`, a one-file build as `borg-linux64`."""
    return re.fullmatch(r"borg(\d[\d.]*)?(-(linux|freebsd)[\w.-]*)?(\.exe)?", program) is not None


@hookimpl
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Read `borg … create …`, and `borg with-lock REPOSITORY borg create …`."""
    if not is_borg(invocation.program):
        return None
    from borg_lvm_hooks.commands.borg import reading

    return reading.read(invocation)


@hookimpl
def borg_lvm_taint(invocation: Invocation, tainted: Tainted) -> Marked | None:
    """Mark the archive that `borg create REPOSITORY::ARCHIVE …` has made; borg 2 is not followed there."""
    if not is_borg(invocation.program):
        return None
    from borg_lvm_hooks.commands.borg import reading

    return reading.mark(invocation, tainted)


@hookimpl
def borg_lvm_read_back(invocation: Invocation) -> ReadBack | None:
    """Read back the archive that `borg create REPOSITORY::ARCHIVE …` has made; borg 2 is not followed there."""
    if not is_borg(invocation.program):
        return None
    from borg_lvm_hooks.commands.borg import reading

    return reading.read_back(invocation)
