"""How an application is started from an archive alone, and judged: what its plugin implements for `borg-lvm drill`.

An `ApplicationType` names a `Judge` class in `judge`; without one there is no drill for the application. The core
restores the paths that the application named when the backup was made, and shows them where they lay, in a sandbox
that holds nothing else of the live server: own mounts, processes, network (loopback only), IPC and host name; `/usr`
and a few files of `/etc` read-only; `/run`, `/tmp`, `/var/tmp` and `/dev/shm` empty. `judge` is called in it, as the
user whose the data is, without capabilities, in a process of its own; all that it starts ends with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from borg_lvm.errors import BorgLvmError
from borg_lvm.plugins.backup_command import NOTHING
from borg_lvm.records import dataclass


class ArchiveWrongError(BorgLvmError):
    """The application does not start from what was restored, or its data is wrong: the archive is no good."""

    status = 74


@dataclass(frozen=True)
class Restored:
    """An application as it was restored: what it said of itself when the backup was made, and what was made of that.

    `paths` are seen in the sandbox where they lay, a file in a directory that holds nothing else of the live server;
    the first one's owner is who judges. `whats` says of each what it is (`DataPath.what`). `version` is what
    `Probe.version` was, `remark` what a restore should know (`Application.confirm`). `options` are those of the entry
    of the configuration, now.
    """

    name: str
    version: str
    paths: tuple[str, ...]
    whats: tuple[str, ...]
    remark: str
    options: Any


class RestoredTree(Protocol):
    """What was restored, seen before anything of it is shown: through no link, as far as it is files and directories.

    `path` is one of `Restored.paths`, or lies below one.
    """

    def names(self, path: str) -> Mapping[str, bool]:
        """Return the names in a directory (10,000 at most), and which are directories; nothing, if it is none."""
        raise NotImplementedError

    def head(self, path: str, size: int) -> bytes:
        """Return the first bytes of a file; none, if it is none."""
        raise NotImplementedError

    def owner(self, path: str) -> int:
        """Return the user id of its owner; that of root, if there is nothing."""
        raise NotImplementedError


class Server(Protocol):
    """A server that runs in the sandbox."""

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Ask again and again until it is ready. Raises: ArchiveWrongError with its last words when it ends first."""
        raise NotImplementedError

    def said(self) -> str:
        """Return all that it has written to its outputs (of more than 1 MiB, the end)."""
        raise NotImplementedError

    def stop(self, signum: int) -> int:
        """Have it end by a signal, and return its exit status; a second time does nothing."""
        raise NotImplementedError


class Bench(Protocol):
    """What a judge works with. What it reports is kept as it comes: also of a judge that is ended at the time limit."""

    scratch: str
    """An empty directory of the judge's own, on the scratch space: for sockets, configurations, temporary files."""

    def phase(self, name: str) -> AbstractContextManager[object]:
        """Take the time of the block: `start`, `check`, `stop`. How long the restore took is known already."""
        raise NotImplementedError

    def right(self, what: str) -> None:
        """Report what was judged, and is right: `pg_amcheck --heapallindexed of 3 databases`."""
        raise NotImplementedError

    def wrong(self, what: str) -> None:
        """Report what is wrong in the archive, and go on: `table shop.orders: page 17: checksum mismatch`."""
        raise NotImplementedError

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING, stdin: bytes = b"") -> str:
        """Run a program to its end and return what it writes to its standard output. Raises: ProgramError."""
        raise NotImplementedError

    def server(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> AbstractContextManager[Server]:
        """Have a server run for the length of the block; what is left of it then is killed."""
        raise NotImplementedError


class Judge(ABC):
    """Judges one application, whose entry in the configuration the core has read.

    `beside`: what the names of files end with that belong to a path which is a file (`-wal`); these are restored too.
    `own`: a server has named the paths, or links of its owner: none is shown that does not belong to the same user as
    the first one, for what keeps that user from it, a directory above, is not in the sandbox.
    """

    beside: tuple[str, ...] = ()
    own: bool = False

    def __init__(self, restored: Restored) -> None:
        self.restored = restored

    @abstractmethod
    def prepare(self) -> Sequence[str]:
        """Find what is needed for judging, before anything is restored; called as root, on the live server.

        Returns the paths of programs, libraries and files outside of `/usr` that must be seen in the sandbox too
        (read-only). Changes nothing. Raises: QuiesceError in words when it cannot be judged here; AbsentError when
        it is not to be.
        """

    def divided(self, tree: RestoredTree) -> Sequence[Part]:
        """Return the parts that are judged apart: several, or those that are known only by what was restored.

        Called as root, before anything is shown. Each is prepared, and called in a sandbox of its own. Raises:
        QuiesceError when there is none that could judge.
        """
        return (Part(self),)

    @abstractmethod
    def judge(self, bench: Bench) -> None:
        """Start the application from what was restored, switched off from the world, judge it and stop it.

        Reports to `bench`. Raises: ArchiveWrongError when there is no going on; what else it raises says that it
        could not judge.
        """


@dataclass(frozen=True)
class Part:
    """A part of an application, and who judges it: `name` stands before all that is said of it.

    `links` are pairs of a path in the sandbox, and what was restored, to which it is to lead. Of the application's
    paths only these `paths` are shown, all if there are none.
    """

    judge: Judge
    name: str = ""
    links: tuple[tuple[str, str], ...] = ()
    paths: tuple[str, ...] = ()
