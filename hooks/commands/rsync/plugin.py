"""Reads the command lines of rsync that copy local paths elsewhere.

A run of any other command asks, too: what reads them (`reading.py` and what that imports) is imported for rsync alone.
"""

from __future__ import annotations

from borg_lvm.plugin_api import Invocation, ReadBack, Reading, hookimpl


@hookimpl
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Read `rsync … SOURCE… DESTINATION`."""
    if invocation.program != "rsync":
        return None
    from borg_lvm_hooks.commands.rsync import reading

    return reading.read(invocation)


@hookimpl
def borg_lvm_read_back(invocation: Invocation) -> ReadBack | None:
    """Read back what `rsync … SOURCE… DESTINATION` has copied to a directory of this machine."""
    if invocation.program != "rsync":
        return None
    from borg_lvm_hooks.commands.rsync import reading

    return reading.read_back(invocation)
