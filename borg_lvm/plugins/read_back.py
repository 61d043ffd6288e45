"""How what a command has saved is read back: what a plugin for a backup program says of it, for `prove`.

A plugin answers the hook `borg_lvm_read_back` with a `ReadBack`, before anything is done; when the command has ended,
its `archives` finds what this very run has made, and each `Saved` gives a stream of entries and of contents. The core
compares. Nothing here keeps a list of all that is in an archive: it may have millions of entries.
"""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Literal, Protocol

from borg_lvm.plugins.backup_command import NOTHING, Span
from borg_lvm.records import dataclass, field

EntryType = Literal["file", "directory", "link", "fifo", "socket", "character device", "block device"]
_TYPES: Mapping[int, EntryType] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}
Acl = frozenset[str]
"""An access control list: `user::rw-`, `user:1000:r--` …, ids as numbers; empty if there is none beside the mode."""


def entry_type(mode: int) -> EntryType:
    """Return the type in a mode (`st_mode`). Raises: KeyError when it has none."""
    return _TYPES[stat.S_IFMT(mode)]


@dataclass(frozen=True)
class Entry:
    """What an archive holds of one path. None, of all that may be None: the archive does not say.

    `path` is the absolute path as the command has read it; `listed` how the program's dry run names it, if that is
    another text. `size` is in bytes, `mode` has the permission bits, `mtime` is in ns since 1970. `target` is what a
    symbolic link says, `linked` the path of an earlier entry of which this one is a hard link, or `inode` is the same
    for all names of one file. `device` is `st_rdev`.
    """

    path: str
    type: EntryType
    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime: int | None = None
    target: str | None = None
    linked: str | None = None
    inode: tuple[int, int] | None = None
    device: int | None = None
    xattrs: Mapping[str, bytes] | None = None
    acl: Acl | None = None
    default_acl: Acl | None = None
    listed: str = ""

    @property
    def name(self) -> str:
        """The path as the program's dry run names it."""
        return self.listed or self.path


@dataclass(frozen=True)
class Stores:
    """What a program is able to store, as it was called.

    `mtime_step`: times are exact to so many ns; `mtimes`: earlier and later ones than these (ns since 1970) are stored
    as these; as any others, without `clamps`. `sockets`: they are stored, else they are left out though the dry run may
    name them. `hard_links`: names of one file stay names of one file; `inodes`: the inodes show that, which are stored
    as they were; `links_stay`: what an earlier run has linked stays so, though these are files of their own by now.
    `xattrs`: the beginnings of the names of extended attributes that are stored; one that is empty stands for all.
    `unlisted`: these types are stored, but the dry run does not name them.
    """

    mtime_step: int = 1
    mtimes: tuple[int, int] = (-(1 << 95), 1 << 95)
    sockets: bool = True
    hard_links: bool = True
    inodes: bool = False
    links_stay: bool = False
    xattrs: tuple[str, ...] = ("",)
    unlisted: frozenset[EntryType] = frozenset()
    clamps: bool = True


@dataclass(frozen=True)
class Selection:
    """The files whose content is wanted: all; or those at these paths, and those at and below these `prefixes`."""

    everything: bool = False
    paths: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def wants(self, path: str) -> bool:
        """Whether the content of the file at this path is wanted."""
        return self.everything or path in self.paths or self.is_below(path)

    def joined(self, other: Selection) -> Selection:
        """Return what is selected by this one or by another one."""
        return Selection(self.everything or other.everything, self.paths | other.paths, self.prefixes + other.prefixes)

    def is_below(self, path: str) -> bool:
        """Whether a path is one of the prefixes, or lies below one."""
        return any(path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in self.prefixes)


class Programs(Protocol):
    """Starts programs in the view where the command ran, in its environment, without a terminal."""

    def output(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
        """Return what a program writes to its standard output (64 MiB at most). Raises: ProgramError."""
        raise NotImplementedError

    def reading(
        self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING, errors: bool = False
    ) -> AbstractContextManager[BinaryIO]:
        """Have a program's standard output as a stream, with `errors` that of its errors too.

        The stream must be read to its end. Raises: ProgramError, when the block ends, if the program has failed.
        """
        raise NotImplementedError


class DamagedError(Exception):
    """An archive cannot be read whole, and that is the archive's fault."""


class Saved(ABC):
    """An archive of this run's; `name` is what its program calls it."""

    name: str
    stores: Stores

    @abstractmethod
    def expected(self) -> Iterator[str]:
        """Yield the paths that the command had to save, as its dry run lists them now. Raises: ProgramError.

        That of a directory may end in a slash, and must where types are not listed (`Stores.unlisted`).
        """

    def unlisted_name(self, path: str) -> str:
        """Return how a path of an unlisted type counts among those that the command had to save.

        Empty, if the command may leave it out where it saves its directory.
        """
        return path

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yield all that is in the archive, whatever its order. Raises: ProgramError, DamagedError."""

    @abstractmethod
    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield path and content, in pieces, of each regular file that is selected. Raises: as `entries`.

        The content of a path must be used up before the next one is asked for. Hard links of an earlier entry are left
        out.
        """

    def whole(self, selection: Selection) -> Iterator[Entry]:
        """Yield the entries that are selected, with all that is needed to restore them. Raises: as `entries`."""
        return (entry for entry in self.entries() if selection.wants(entry.path))

    def doubtful(self) -> Sequence[str]:
        """Return the directories whose entries `details` must look at, as `expected` has found them."""
        return ()

    def details(self, directory: str) -> Iterator[Entry]:
        """Yield the entries of a directory, with what `entries` does not say of them. Raises: as `entries`."""
        return iter(())


@dataclass(frozen=True)
class ReadBack:
    """How what a command line saves can be read back, or why it cannot (`refused`: a sentence).

    `archives` finds what the command has made in its span, and nothing else; the command has ended with success. `how`
    says for the plan what is run, by mode.

    `restored` finds, much later, the archive that a command of a span has made, or the one of a name, for a drill: for
    that the sources may be gone, and `expected` is never called. None: nothing is restored from what the program saves;
    it may be there though it is `refused` to compare. `archive` is what the runs of this command call what they make
    (`Reading.archive`), if only that distinguishes these runs from others of the program.
    Raises, when called: ProgramError; LookupError with a sentence where the archive is not certain.
    """

    refused: str = ""
    archives: Callable[[Programs, Span], Sequence[Saved]] = field(default=lambda programs, span: ())
    how: Mapping[str, str] = field(default_factory=dict)
    restored: Callable[[Programs, Span | str], Saved] | None = None
    archive: str = ""
