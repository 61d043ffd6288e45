"""The contents of a snapshot as `restic dump` writes them: of a directory as one tar archive, or of one file.

Go's library makes no tar archive of what has some extended attributes: those with `=` in their names, which its owner
may give. Then restic ends there, and all the rest is asked for directory by directory.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from borg_lvm.plugin_api import Selection, subprocesses
from borg_lvm_hooks.commands.parsers import tar_stream
from borg_lvm_hooks.commands.restic.trees import Trees

NO_SUCH = re.compile("not found in snapshot|should be a (dir|file), but is")
NOT_AS_TAR = "cannot encode header"
"""What Go's archive/tar says of it (`headerError`)."""
PIECE = 1 << 20
Content = tuple[str, Iterator[bytes]]


@dataclass(frozen=True)
class Contents:
    """Contents of the snapshot of an id; `reading` has the output of restic's words, `path` says where a path lay."""

    id: str
    reading: Callable[..., AbstractContextManager[BinaryIO]]
    path: Callable[[str], str]
    stored: Callable[[str], str]
    trees: Trees

    def below(self, stored: str, selection: Selection, after: str = "") -> Iterator[Content]:
        """Yield path and content of the files that are selected at and below a path of the snapshot.

        If the file `after` is one of them, only of those behind it. Raises: ProgramError, DamagedError.
        """
        last, waits = after, bool(after)
        try:
            for path, pieces in self._archived(stored, selection):
                if waits:
                    waits = path != after
                    continue
                last = path
                yield path, pieces
        except subprocesses.ProgramError as error:
            if NOT_AS_TAR not in error.stderr:
                raise
            yield from self._apart(stored, selection, last)

    def _archived(self, stored: str, selection: Selection) -> Iterator[Content]:
        with _there(), self.reading("dump", "--archive=tar", self.id, stored) as stream:
            for member in tar_stream.members(stream):
                path = self.path("/" + member.info.name.strip("/"))
                if member.info.isreg() and selection.wants(path):
                    yield path, member.pieces

    def _apart(self, stored: str, selection: Selection, last: str) -> Iterator[Content]:
        """Yield them from where the archive has ended, behind the file `last`, if that lies there."""
        base = stored.rstrip("/")
        head = self.stored(last).removeprefix(f"{base}/").partition("/")[0] if last else ""
        children = self.trees.children(stored)
        begin = next((number for number, (name, _) in enumerate(children) if name == head), 0)
        for name, kind in children[begin:]:
            child = f"{base}/{name}"
            if kind == "dir":
                yield from self.below(child, selection, last if name == head else "")
            elif kind == "file" and name != head and selection.wants(self.path(child)):
                yield from self.one(self.path(child))

    def one(self, path: str) -> Iterator[Content]:
        """Yield path and content of a file; nothing, if the snapshot has none there."""
        with _there():
            pieces = self._pieces(path)
            first = next(pieces, b"")
            yield path, itertools.chain([first], pieces)

    def _pieces(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file. It ends when restic has ended, so that a failure is no end of the file."""
        with self.reading("dump", self.id, self.stored(path)) as stream:
            while piece := stream.read(PIECE):
                yield piece


@contextmanager
def _there() -> Iterator[None]:
    """Pass over a path that the snapshot does not have: who wants its content misses it."""
    try:
        yield
    except subprocesses.ProgramError as error:
        if not NO_SUCH.search(error.stderr):
            raise
