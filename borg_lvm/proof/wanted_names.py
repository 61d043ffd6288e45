"""The names that a command had to save, as the program's own dry run has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

from borg_lvm.plugins.read_back import Saved
from borg_lvm.proof.frozen_tree import FrozenTree, NotFrozenError
from borg_lvm.proof.programs import ViewPrograms
from borg_lvm.records import dataclass

MOST_DIRECTORIES = 256
"""Of so many directories, those above a name and some beside, it is remembered which sockets are in them."""


@dataclass(frozen=True)
class WantedNames:
    """Those of one archive, anew each time: the dry run is made for each of them. None that is live is among them.

    Raises, while they are read: ProgramError, TimeIsUpError.
    """

    saved: Saved
    tree: FrozenTree
    programs: ViewPrograms

    def but_sockets(self) -> Iterator[str]:
        """Yield them, but for sockets that are found by reading directories, if the program stores none.

        The dry run names them, and a database has one: without this it would be made twice on nearly every server.
        """
        if self.saved.stores.sockets:
            yield from self._all()
            return
        sockets = lru_cache(MOST_DIRECTORIES)(lambda directory: frozenset(self.tree.children(directory, {"socket"})))
        for name in self._all():
            if name not in sockets(os.path.dirname(name)):
                yield name

    def storable(self) -> Iterator[str]:
        """Yield those that the program can store: each is examined, which takes long."""
        for name in self._all():
            if self.saved.stores.sockets or not self._is_socket(name):
                yield name

    def _is_socket(self, path: str) -> bool:
        with suppress(NotFrozenError, OSError):
            frozen = self.tree.look(path)
            return frozen is not None and frozen.type == "socket"
        return False

    def _all(self) -> Iterator[str]:
        for number, name in enumerate(self.saved.expected()):
            if number % 256 == 0:
                self.programs.check()
            if self.tree.is_live(name):
                continue
            path = name.rstrip("/") or "/"
            yield path
            if name.endswith("/") and self.saved.stores.unlisted:
                yield from self._unlisted(path)

    def _unlisted(self, directory: str) -> Iterator[str]:
        """Yield what a directory has of the types that the dry run does not name."""
        for path in self.tree.children(directory, self.saved.stores.unlisted):
            name = self.saved.unlisted_name(path)
            if name and not self.tree.is_live(path):
                yield name
