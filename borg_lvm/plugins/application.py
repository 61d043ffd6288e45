"""What a plugin for an application implements: a server, a unit, anything that writes files and can be quiesced.

A plugin's hook `borg_lvm_application` returns an `ApplicationType`; for each entry of `applications:` in the
configuration the core makes an `Application` of it, and drives that through its life: *probe* (where is the data?),
*prepare* (what is slow and blocks nobody), *intents* (what somebody else needs to undo it), *quiesced* (it
writes nothing), *confirm* (nor did it meanwhile), *close*, *verify* (is its snapshot right?). docs/plugins.md has a
whole plugin, and the tests that it must pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from borg_lvm.records import dataclass, field

if TYPE_CHECKING:
    from borg_lvm.plugins.drill import Judge

END_PROCESS = "borg-lvm:end-process"
"""Stands for a program in an intent: ends the process of that id and start time, and its group (`Child.intent`)."""


@dataclass(frozen=True)
class DataPath:
    """A file or directory that the application keeps data in, and what that is, in a word or two.

    `after`: a log that must hold all that was written while the others were snapshotted one after the other; its volume
    is snapshotted when the application goes on again. `labelled`: a directory that `Application.added` may write to.
    `log`: a log that the application writes before it writes the others; its volume is held still after theirs.
    """

    path: str
    what: str
    after: bool = False
    labelled: bool = False
    log: bool = False


@dataclass(frozen=True)
class Added:
    """A file that a snapshot needs and the original must not have: its name, in a directory that the probe has named.

    `owner` is the user id that the directory must belong to, and the file will.
    """

    directory: str
    name: str
    content: bytes
    owner: int


@dataclass(frozen=True)
class Probe:
    """What an application reports of itself: its version, all that a restore needs, and what a person should know."""

    version: str
    paths: tuple[DataPath, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Intent:
    """A command that sets the application going again when we are dead.

    It is registered before anything is quiesced, and may be run when nothing is, or twice: then it must do nothing.
    Those of one application are run in the reverse order. It holds no secrets, for the ledger holds it.
    """

    argv: tuple[str, ...]


@dataclass(frozen=True)
class ApplicationSettings:
    """An entry of the configuration as its plugin gets it; `deadline` in seconds is how long it may be quiesced."""

    name: str
    level: str
    deadline: float
    options: Any


class Application(ABC):
    """One application of the configuration.

    Every method may raise QuiesceError (`borg_lvm.errors`) with words for the administrator; AbsentError if the
    application is not there. BusyError in `quiesced` says that another attempt may succeed: then a new object is made,
    after a pause. The core ends each that takes too long.
    """

    @abstractmethod
    def probe(self) -> Probe:
        """Connect, see whether all that is needed later is allowed, and say where the data is. Changes nothing."""

    def prepare(self) -> Iterator[None] | None:
        """Do what takes long and blocks nobody, so that little is left to do while the application is quiesced.

        It may be a generator, which yields again and again while it waits: then others are prepared meanwhile.
        """
        return None

    def intents(self) -> Sequence[Intent]:
        """Return what would have to be done if we died in `quiesced`; nothing, if all then ends by itself.

        What somebody else has quiesced already is not ours to resume.
        """
        return ()

    @abstractmethod
    def quiesced(self) -> AbstractContextManager[object]:
        """Hold the application still for the length of the block; entered only once.

        In it nothing may be written to a disk, imported or looked up, and no connection made: disks are suspended.
        It undoes itself in every case, also when it could not be entered.
        """

    def confirm(self) -> str:
        """Prove at the block's end that the application was quiesced all the time; raise if that cannot be proven.

        Returns what a restore should know of this instant, for the run's last lines: a position in a log, for instance.
        """
        return ""

    def added(self) -> Sequence[Added]:
        """Return the files that a restored snapshot needs besides; called when all snapshots are there.

        They are written into the snapshot before anybody sees it, owned as the directory is, and not over another file.
        """
        return ()

    def close(self) -> None:  # noqa: B027 - may be left out
        """Let go of connections and processes. Called once, in every case."""

    def verify(self, scratch: str) -> str:
        """Look at the snapshot before the command starts; raise QuiesceError with what is wrong with it.

        Returns what was verified, in a few words for the certificate; nothing, if nothing was.

        Called after `close`, in a process of its own that sees the snapshot at the usual paths, read-only, and is
        ended at the deadline. What it changes in this object is lost. `scratch` is an empty directory in memory
        (256 MiB), for what has to be written. Not called when a part of the data is not in the run, or is not seen at
        the path that the probe has returned.
        """
        return ""


@dataclass(frozen=True)
class ApplicationType:
    """What a plugin offers: its levels (the first is the default) with their meaning, its options, and how it is made.

    `options` is a dataclass of keys (`borg_lvm.config.fields`). At the levels in `still` the application writes
    nothing at all, so its volumes may be snapshotted one after the other; at those in `apart` as well, for a restore
    puts the parts together: these are refused where all of it is of one instant. At the levels in `recovers` it does
    not bring its files into order for the instant: what is restored recovers as after a power cut, which the
    certificate says. `judge` starts and judges one that was restored (`borg_lvm.plugins.drill`).
    """

    levels: Mapping[str, str]
    options: type
    make: Callable[[ApplicationSettings], Application]
    still: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    recovers: frozenset[str] = frozenset()
    judge: type[Judge] | None = None


@dataclass(frozen=True)
class DiscoveredApplication:
    """An application that a plugin has found running here, as the entry of the configuration that would cover it.

    `description` says what was found, and what must still be looked after, in a sentence or two. `options` are the
    plugin's own, as far as they differ from their defaults. `identity` names those by which an application differs from
    another: an entry with the same values is for the same one; all that are given, if none is named. `data`: where it
    keeps its data, as far as that is seen without speaking to it; nobody will ask it, for anybody may say that he is a
    server.
    """

    description: str
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: tuple[str, ...] = ()
    name: str = ""
    level: str = ""
    data: tuple[str, ...] = ()
