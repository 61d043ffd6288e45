"""What of a restored tree is shown in the sandbox, where, and whose it is."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from borg_lvm.drill.choice import ApplicationFacts
from borg_lvm.drill.sandbox.root import SandboxRoot
from borg_lvm.linux import safe_open
from borg_lvm.plugins.drill import ArchiveWrongError
from borg_lvm.records import dataclass

OF_ITS_OWN = tuple("/usr /bin /sbin /lib /lib32 /lib64 /libx32 /etc /dev /proc /sys /run /tmp".split())
"""What a sandbox has of its own."""


@dataclass(frozen=True)
class Shown:
    """Pairs of what was restored and the path where it is shown, and links to these.

    `places` are the paths of the application, each with the one by which the archive has it.
    """

    trees: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    places: tuple[tuple[str, str], ...]

    def linked(self, links: Sequence[tuple[str, str]]) -> Shown:
        """Return the same with further links, but for those that would lie in what is shown, or of the system."""
        taken = (*(path for _, path in self.trees), *OF_ITS_OWN)
        free = [(path, to) for path, to in links if not any(f"{path}/".startswith(f"{one}/") for one in taken)]
        return replace(self, links=(*self.links, *free))

    def only(self, paths: Collection[str]) -> Shown:
        """Return the same with these paths of the application's alone; all, if there are none."""
        places = [place for path, place in self.places if path in paths]
        kept = (pair for pair in self.trees if any(f"{place}/".startswith(f"{pair[1]}/") for place in places))
        return replace(self, trees=tuple(kept)) if paths else self

    def root(self, point: str, programs: Sequence[str], temporary: str) -> SandboxRoot:
        """Return the root of a sandbox that shows it."""
        return SandboxRoot(point, self.trees, tuple(programs), temporary, self.links)


def shown(tree: str, facts: ApplicationFacts) -> Shown:
    """Return what is shown. A file is shown in its directory, which becomes its owner's: a journal is made there.

    But for what was a device: /dev is the sandbox's own.

    Raises: ArchiveWrongError, with all of an application's paths that the archive has nothing of.
    """
    places = {part.path: place for part in facts.data for place in part.places if _is_there(tree, place)}
    lacking = [f"{part.path} ({part.what})" for part in facts.data if part.path not in places]
    if lacking:
        raise ArchiveWrongError(f"the archive holds nothing at {', '.join(lacking)}")
    owner = os.lstat(_in(tree, places[facts.data[0].path])).st_uid
    devices = frozenset(places[part.path] for part in facts.data if part.given)
    trees = dict(_trees(tree, list(places.values()), devices, owner))
    outermost = [path for path in trees if not any(path.startswith(f"{other}/") for other in trees)]
    links = [(path, place) for path, place in places.items() if path != place]
    return Shown(
        tuple((trees[path], path) for path in outermost),
        tuple((path, place) for path, place in links if not any(path.startswith(f"{other}/") for other in outermost)),
        tuple(places.items()),
    )


def _in(tree: str, path: str) -> str:
    return os.path.join(tree, path.lstrip("/"))


def _is_there(tree: str, path: str) -> bool:
    """Whether a path was restored, and no link on the way leads out of what was: to live data."""
    try:
        with safe_open.path(tree, flags=safe_open.DIRECTORY) as root, safe_open.path(path.strip("/"), root):
            return True
    except OSError:
        return False


def _trees(tree: str, places: Sequence[str], devices: Collection[str], owner: int) -> Iterator[tuple[str, str]]:
    for place in places:
        if os.path.isdir(_in(tree, place)) or place in devices:
            yield place, _in(tree, place)
        else:
            above = os.path.dirname(place)
            os.chown(_in(tree, above), owner, -1)
            yield above, _in(tree, above)
