"""Reads borgmatic's command lines and its configuration files: what `borgmatic create` reads and writes.

A run of any other command asks, too: what reads them (`reading.py` and ten more) is imported for borgmatic alone.
"""

from __future__ import annotations

from borg_lvm.plugin_api import Invocation, Marked, ReadBack, Reading, Tainted, hookimpl


@hookimpl
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Read `borgmatic`, `borgmatic create`, `borgmatic create prune …` and their configuration files."""
    if invocation.program != "borgmatic":
        return None
    from borg_lvm_hooks.commands.borgmatic import reading

    return reading.read(invocation)


@hookimpl
def borg_lvm_taint(invocation: Invocation, tainted: Tainted) -> Marked | None:
    """Mark the archives that `borgmatic create` has made in the repositories of its configuration."""
    if invocation.program != "borgmatic":
        return None
    from borg_lvm_hooks.commands.borgmatic import reading

    return reading.mark(invocation, tainted)


@hookimpl
def borg_lvm_read_back(invocation: Invocation) -> ReadBack | None:
    """Read back the archives that `borgmatic create` makes in the repositories of its configuration."""
    if invocation.program != "borgmatic":
        return None
    from borg_lvm_hooks.commands.borgmatic import reading

    return reading.read_back(invocation)
