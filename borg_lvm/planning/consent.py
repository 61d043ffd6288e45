"""How a user lets a mount be read live, in words that will be right tomorrow as well. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from borg_lvm.machine.mounts import above, relative
from borg_lvm.planning.view_layout import Cover, Resolved, if_live

_PASSING = re.compile(r"[0-9a-f]{12,}(-init)?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What the names of containers look like, of which there will be others tomorrow."""
_NUMBER = re.compile(r"x?[0-9]+")
"""Those of revisions and users; a disk may be called so, too."""
_OF_CONTAINERS = frozenset("overlay squashfs".split())


def way_out(cover: Cover, resolved: Resolved) -> str:
    """Say how a path is left live, tomorrow as well: containers get new names every day."""
    if cover.because == cover.target:
        return if_live(cover.target)
    kind = cover.mount.fstype
    if not (kind in _OF_CONTAINERS or kind.startswith("fuse.")):
        return if_live(_stable(cover, resolved, (_PASSING,)))
    stable = _stable(cover, resolved, (_PASSING, _NUMBER))
    return f"{if_live(stable)} (or --live-type {kind}, for all of its kind)"


def _stable(cover: Cover, resolved: Resolved, passing: Sequence[re.Pattern[str]]) -> str:
    """Return the folder that stays when the container has another name: never one that anything else lies in.

    What is frozen otherwise must not be declared live, nor what contains it.
    """
    frozen = {other.target for other in resolved.covers if other.mount.fstype != cover.mount.fstype}
    frozen |= set(resolved.left_out.sources)
    kept = {outer for path in frozen for outer in (path, *above(path))}
    for outer in above(cover.target):
        if outer in kept:
            break
        name = relative(cover.target, outer).partition("/")[0]
        if any(pattern.fullmatch(name) for pattern in passing):
            return outer
    return cover.target
