"""Automounts at and below sources, and on the way to live paths, are mounted before the mount table is read.

What a trigger mounts later appears where its daemon lives, and never in the view: there the directory would be empty.
Source: Documentation/filesystems/autofs.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from borg_lvm.linux import safe_open
from borg_lvm.machine import mounts
from borg_lvm.machine.mounts import Mount, Table, above
from borg_lvm.machine.paths import look
from borg_lvm.planning.view_layout import ROOT_LIVE

PATIENCE = 30.0
"""Seconds that one may take: a file system may be checked first, or lie on another machine."""
DEEPEST = 8
"""How many automounts may lie one below the other."""


def opened(sources: Sequence[str], live: Sequence[str] = (), *, one_file_system: bool) -> Table:
    """Open the triggers at and below the sources, and on the way to live paths; return the mounts that there are then.

    What cannot be mounted is still a trigger, which the plan refuses by its name below a source. With `one_file_system`
    the command does not enter what lies below. Live paths are taken by their names, links resolved: nobody may look at
    one whose server is gone. Raises: OSError.
    """
    tried: set[str] = set()
    table = Table(mounts.read())
    for _ in range(DEEPEST):
        triggers = any(mount.is_trigger for mount in table.mounts)
        paths, ways = (_real(sources), _ways(live)) if triggers else (set(), set())
        concerned = _concerned(table, paths, ways, one_file_system)
        waiting = [mount.path for mount in concerned if mount.path not in tried]
        if not waiting:
            break
        from borg_lvm.linux import looking

        looking.answers(partial(_open, waiting), range(len(waiting)), PATIENCE)
        tried.update(waiting)
        table = Table(mounts.read())
    return table


@contextmanager
def held(live: Sequence[str]) -> Iterator[None]:
    """Have what automounts mount on the way to live paths stand for the block: an idle one is unmounted after a while.

    What cannot be mounted is left to the command, which finds out. Raises: OSError.
    """
    with ExitStack() as stack:
        triggers = {mount.path for mount in mounts.read() if mount.is_trigger} & _ways(live)
        table = opened((), live, one_file_system=False) if triggers else None
        for mount in table.mounts if table else ():
            if mount.path in triggers and not mount.is_trigger:
                with suppress(OSError):  # not by O_PATH, which would mount nothing where it has just been unmounted
                    stack.callback(os.close, safe_open.opened(mount.path, None, os.O_RDONLY | os.O_DIRECTORY))
        yield


def _ways(paths: Sequence[str]) -> set[str]:
    """Return the paths and all directories above them."""
    return {directory for path in paths for directory in (path, *above(path))}


def _real(sources: Sequence[str]) -> set[str]:
    seen = [look(source) for source in sources]
    return {path.behind for path in seen}


def _concerned(table: Table, paths: set[str], ways_to_live: set[str], one_file_system: bool) -> Iterator[Mount]:
    live = {path for path, _ in ROOT_LIVE}
    for mount in table.mounts:
        if not mount.is_trigger:
            continue
        ways = (mount.path, *above(mount.path))
        outer = next((path for path in ways if path in paths or path in live), None)
        if mount.path in ways_to_live or (outer in paths and (outer == mount.path or not one_file_system)):
            yield mount


def _open(paths: Sequence[str], number: int) -> bool:
    os.close(safe_open.opened(paths[number], None, os.O_RDONLY | os.O_DIRECTORY))
    return True
