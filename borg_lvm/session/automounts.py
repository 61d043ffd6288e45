"""Automounts at and below sources are mounted before the mounts are looked at.

What a trigger mounts later appears where its daemon lives, and never in the view: there the folder would be empty.
Source: Documentation/filesystems/autofs.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial

from borg_lvm.linux import looking, safe_open
from borg_lvm.machine import mounts
from borg_lvm.machine.mounts import Mount, Table, above
from borg_lvm.machine.paths import look
from borg_lvm.planning.view_layout import ROOT_HOLES

PATIENCE = 30.0
"""Seconds that one may take: a file system may be checked first, or lie on another machine."""
DEEPEST = 8
"""How many automounts may lie one below the other."""


def opened(sources: Sequence[str], *, one_file_system: bool) -> Table:
    """Open the triggers at and below the sources; return the mounts that there are then.

    What cannot be mounted is still a trigger, which the plan refuses by its name. With `one_file_system` the command
    does not enter what lies below. Raises: OSError.
    """
    tried: set[str] = set()
    table = Table(mounts.read())
    for _ in range(DEEPEST):
        paths = _real(sources) if any(mount.is_trigger for mount in table.mounts) else set()
        waiting = [mount.path for mount in _concerned(table, paths, one_file_system) if mount.path not in tried]
        if not waiting:
            break
        looking.answers(partial(_open, waiting), range(len(waiting)), PATIENCE)
        tried.update(waiting)
        table = Table(mounts.read())
    return table


def _real(sources: Sequence[str]) -> set[str]:
    seen = [look(source) for source in sources]
    return {one.target or one.real for one in seen}


def _concerned(table: Table, paths: set[str], one_file_system: bool) -> Iterator[Mount]:
    live = {path for path, _ in ROOT_HOLES}
    for mount in table.mounts:
        if not mount.is_trigger:
            continue
        ways = (mount.path, *above(mount.path))
        outer = next((path for path in ways if path in paths or path in live), None)
        if outer in paths and (outer == mount.path or not one_file_system):
            yield mount


def _open(paths: Sequence[str], number: int) -> bool:
    os.close(safe_open.opened(paths[number], None, os.O_RDONLY | os.O_DIRECTORY))
    return True
