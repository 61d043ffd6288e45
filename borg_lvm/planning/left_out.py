"""Mounts below a source that need no snapshot: the command does not enter them, or their kind may be live. Pure.

A command goes by names. So a mount is left out only if it is excluded by whichever source the command comes to it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property

from borg_lvm.machine.mounts import Mount, above, join, relative
from borg_lvm.plugins.backup_command import Excluded
from borg_lvm.records import dataclass, field


@dataclass(frozen=True)
class LeftOut:
    """`sources` are the paths where sources really lie, each with the names by which the command was given it."""

    excluded: tuple[Excluded, ...] = ()
    types: tuple[str, ...] = ()
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def reason(self, mount: Mount) -> str:
        """Say why this mount, which lies below a source, needs no snapshot; empty if it does."""
        kind = next((pattern for pattern in self.types if fnmatchcase(mount.fstype, pattern)), "")
        if kind:
            return f"{mount.fstype}, declared live (live_types: {kind})"
        option = self.excludes(mount.path)
        return f"the command leaves it out ({option})" if option else ""

    def excludes(self, path: str) -> str:
        """Return the option by which the command does not enter a path below a source; empty if it does."""
        if not self.excluded:
            return ""
        whole = [outer for outer in above(path) if outer in self.sources]
        matching = [self._excluded(given, relative(path, outer)) for outer in whole for given in self.sources[outer]]
        return matching[0].option if matching and matching[0] and all(matching) else ""

    def _excluded(self, given: str, inner: str) -> Excluded | None:
        """Return what excludes the path `inner` below the source that was given by this name."""
        if ".." in given.split("/"):
            return None  # the program and the kernel may differ in where that is
        base = posixpath.normpath(f"/{given.lstrip('/')}")
        directories = [name for name in (join(base, inner), *above(join(base, inner))) if len(name) > len(base)]
        fitting = [
            (number, excluded)
            for at, directory in enumerate(directories)
            for number, excluded in self._by_path.get(directory, ())
            if (not excluded.sources or given in excluded.sources) and (at > 0 or not excluded.inside)
        ]
        return min(fitting, key=lambda numbered: numbered[0])[1] if fitting else None

    @cached_property
    def _by_path(self) -> Mapping[str, Sequence[tuple[int, Excluded]]]:
        """What is excluded, with its place in the order given, by its path: there may be thousands."""
        by_path: dict[str, list[tuple[int, Excluded]]] = {}
        for number, excluded in enumerate(self.excluded):
            by_path.setdefault(excluded.path, []).append((number, excluded))
        return by_path
