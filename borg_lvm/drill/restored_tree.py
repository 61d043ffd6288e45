"""What was restored of an application, as its judge may look at it before anything of it is shown: through no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.errors import QuiesceError
from borg_lvm.linux import safe_open
from borg_lvm.records import dataclass

MOST = 10_000
"""How many names of a directory are returned."""


@dataclass(frozen=True)
class TreeOnDisk:
    """A `RestoredTree` in a directory; `places` are where the archive has what the application calls otherwise."""

    directory: str
    places: Mapping[str, str]

    def names(self, path: str) -> Mapping[str, bool]:
        """Return what is in a directory, and whether it is one itself; no links, sockets, pipes."""
        found: dict[str, bool] = {}
        with suppress(OSError), self._opened(path) as handle:
            fd = safe_open.reopened(handle, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with os.scandir(fd) as entries:
                    for one in entries:
                        if len(found) == MOST:
                            break
                        if one.is_dir(follow_symlinks=False) or one.is_file(follow_symlinks=False):
                            found[one.name] = one.is_dir(follow_symlinks=False)
            finally:
                os.close(fd)
        return found

    def head(self, path: str, size: int) -> bytes:
        """Return the first bytes of a file."""
        with suppress(OSError), self._opened(path) as handle:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                fd = safe_open.reopened(handle, os.O_RDONLY)
                try:
                    return os.read(fd, size)
                finally:
                    os.close(fd)
        return b""

    def owner(self, path: str) -> int:
        """Return the user id of its owner."""
        with suppress(OSError), self._opened(path) as handle:
            return os.fstat(handle).st_uid
        return 0

    def refuse_foreign(self, paths: Sequence[str]) -> None:
        """Raise QuiesceError unless all of these belong to the same user."""
        owner = self.owner(paths[0])
        for path in paths[1:]:
            if (uid := self.owner(path)) != owner:
                raise QuiesceError(
                    f"{path} belongs to user {uid}, and {paths[0]} to user {owner}: what is somebody else's is not "
                    "shown to its server"
                )

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        """Have a path open, by the name that the archive has for it. Raises: OSError."""
        fitting = (known for known in self.places if path == known or path.startswith(f"{known}/"))
        if known := max(fitting, key=len, default=""):  # a link in the data may be a place of its own
            path = self.places[known] + path[len(known) :]
        with (
            safe_open.path(self.directory, flags=safe_open.DIRECTORY) as root,
            safe_open.path(path.strip("/"), root) as handle,
        ):
            yield handle
