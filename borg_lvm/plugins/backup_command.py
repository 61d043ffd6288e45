"""The wrapped command line, and what a backup-command plugin reads out of it.

Pure: nothing here looks at the disk. A plugin may read the files that the command line names (a pattern file,
a configuration), because the wrapped program will read the very same ones.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal, Protocol

from borg_lvm.records import dataclass

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Invocation:
    """A command line as the user gave it, and where it will run.

    `argv[0]` is the backup program itself: wrappers such as `nice` or `env A=b` are peeled off before a plugin
    sees it (and their assignments are in `env`). Paths and arguments that are not UTF-8 carry surrogate
    escapes, as everywhere in Python's `os`.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str

    @property
    def program(self) -> str:
        """The program's name without its directory: `borg` for `/usr/bin/borg`."""
        return os.path.basename(self.argv[0])

    def absolute(self, path: str) -> str:
        """`path` as the command will see it: relative to its working directory, `..` and links left alone."""
        return os.path.join(self.cwd, path)

    def home(self) -> str:
        """Return the home directory as the wrapped program finds it: `$HOME`, else the password database."""
        return self.env.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir


@dataclass(frozen=True)
class LivePath:
    """A path that the command must find live (and writable), though it may lie below a source path.

    `make`: a directory that the program would make itself when it is missing (a cache); we make it before the
    snapshot, because inside the read-only view the program could not. `written`: the names in it that the program
    writes, if it only reads the rest, so that this may be shown frozen; None where that is not known. `unsaved`: the
    program itself leaves the path out of what it saves.
    """

    path: str
    reason: str
    make: bool = False
    written: tuple[str, ...] | None = None
    unsaved: bool = False

    def least(self) -> tuple[LivePath, ...]:
        """Return the paths of it that must be live even if the rest is shown frozen."""
        if self.written is None:
            return (self,)
        return tuple(replace(self, path=os.path.join(self.path, name), written=None) for name in self.written)


@dataclass(frozen=True)
class Excluded:
    """A path that the command surely does not enter: absolute, the shortest name of it, as the command would name it.

    `option` is what says so. `inside`: only what lies in the directory is left out, as by `/var/cache/*`. `sources` are
    those to which it applies, if it does not apply to all.
    """

    path: str
    option: str
    inside: bool = False
    sources: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """What a backup command line reads and writes, as far as its plugin could see.

    `sources` are absolute paths, in the order given, as written (not resolved). `problems` are whole sentences
    that say which option cannot be followed and what to do instead; a run with a problem is refused unless the
    user names the sources by `--path`. `one_file_system` says that the command does not enter file systems
    mounted below a source, so these need no snapshot, and `skips_files` that it then leaves out single files that are
    mounted there as well; `excluded` are paths that it does not enter, so that what is
    mounted there needs none either; `dry_run` that it is certain to save nothing; `reads_devices` that it saves what
    is on a device, not its name. `archive` is what the archive will be called, if the command line says so without a
    placeholder; `warnings` are the exit statuses by which the program says that it saved, though not all went well.
    `no_paths`: it is certain that the command reads no source path at all (another action, `--help`, a backup of its
    standard input alone), so that there is nothing to freeze. `afterwards`: what the program does when it has read
    its sources (`prune`). `reads_once`: it reads all of them in one go before that, and what follows neither
    reads them nor removes what was saved before: then a snapshot that is lost afterwards does not end it.
    `writes_beside` are files that the program cannot read without writing into their directory: a run that would freeze
    one is refused.
    """

    program: str
    action: str
    sources: tuple[str, ...] = ()
    live: tuple[LivePath, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    one_file_system: bool = False
    skips_files: bool = False
    dry_run: bool = False
    reads_devices: bool = False
    archive: str = ""
    warnings: frozenset[int] = frozenset()
    no_paths: bool = False
    afterwards: tuple[str, ...] = ()
    reads_once: bool = False
    excluded: tuple[Excluded, ...] = ()
    writes_beside: tuple[LivePath, ...] = ()


Result = Literal["success", "warning", "failure", "tainted"]
"""The result of a run, in a word."""
OnTainted = Literal["rename", "keep", "delete"]
"""What is to be done with an archive that was read from a lost snapshot."""


class Runs(Protocol):
    """Runs a program where the command ran, and returns what it wrote to its standard output.

    Its environment is that of the command, and what is in `env` besides: secrets stay there.
    Raises: ProgramError, which may be left to the core.
    """

    def __call__(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
        """Run it to its end."""
        raise NotImplementedError


@dataclass(frozen=True)
class Span:
    """When a command ran: the times of day that the clock has shown meanwhile (Unix time), from `begin` to `end`.

    If it was set meanwhile, it went on from there: `then` has these stretches, each with its begin and its end.
    """

    begin: float
    end: float
    then: tuple[tuple[float, float], ...] = ()

    def has(self, moment: float, tolerance: float = 0.0) -> bool:
        """Whether the clock showed this time, or did so up to `tolerance` seconds later."""
        return any(begin - tolerance <= moment <= end for begin, end in ((self.begin, self.end), *self.then))

    def is_earlier(self, moment: float, tolerance: float = 0.0) -> bool:
        """Whether what has this time may have it from before the command: the clock was put back to it."""
        return moment < self.begin - tolerance


@dataclass(frozen=True)
class Tainted:
    """A command one of whose snapshots was lost, to the plugin that is to find and to mark what it saved.

    `ran` is when it ran. What was finished by `sound_until` (Unix time) is sound, because all snapshots were right
    until then. `only`: these archives are wrong (`Saved.name`), and the others are not; all may be if there are none.
    """

    ran: Span
    action: OnTainted
    run: Runs
    sound_until: float = 0.0
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Marked:
    """What a plugin has found of what a command saved, and has made of it: sentences for the user.

    `sound`: the command has saved something, and all of it was finished in time. `all_judged`: of each that it has
    saved a sentence says whether it was.
    """

    lines: tuple[str, ...] = ()
    sound: bool = False
    all_judged: bool = False
