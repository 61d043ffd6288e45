"""How a user lets a mount be read live, in words that will be right tomorrow as well. Pure."""

from __future__ import annotations

import re

from borg_lvm.devices.mounts import above, relative
from borg_lvm.resolve import Cover, Resolved, if_live

_PASSING = re.compile(r"x?[0-9]+|[0-9a-f]{12,}(-init)?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What the names of containers, revisions and users look like, of which there will be others tomorrow."""
_OF_CONTAINERS = frozenset("overlay squashfs".split())


def way_out(cover: Cover, resolved: Resolved) -> str:
    """Say how a path is left live, tomorrow as well: containers get new names every day."""
    if cover.because == cover.target:
        return if_live(cover.target)
    sources = resolved.left_out.sources
    kept = {outer for source in sources for outer in (source, *above(source))}  # these must not be declared live
    folder = cover.target
    for outer in above(cover.target):
        if outer not in kept and _PASSING.fullmatch(relative(cover.target, outer).partition("/")[0]):
            folder = outer
    kind = cover.mount.fstype
    every = (
        f" (or --live-type {kind}, for all of its kind)" if kind in _OF_CONTAINERS or kind.startswith("fuse.") else ""
    )
    return f"{if_live(folder)}{every}"
