"""Reads the command lines of GNU tar that make an archive or add to one.

A run of any other command asks, too: what reads them (`reading.py` and what that imports) is imported for tar alone.
"""

from __future__ import annotations

from borg_lvm.plugin_api import Invocation, ReadBack, Reading, hookimpl


@hookimpl
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Read `tar --create …`, `tar cf …`, `tar -r …`, `tar -u …`."""
    if invocation.program not in ("tar", "gtar", "gnutar"):
        return None
    from borg_lvm_hooks.commands.tar import reading

    return reading.read(invocation)


@hookimpl
def borg_lvm_read_back(invocation: Invocation) -> ReadBack | None:
    """Read back the archive that `tar --create --file=ARCHIVE …` has written."""
    if invocation.program not in ("tar", "gtar", "gnutar"):
        return None
    from borg_lvm_hooks.commands.tar import reading

    return reading.read_back(invocation)
