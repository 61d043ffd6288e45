"""Has writers of SQLite databases wait while the instant passes, so that several files belong together.

A single database is whole at any instant, with its journal or write-ahead log beside it. This is for an application
that keeps several, or a database and other files. The locks are held by a program of their own, as the files' owner.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from borg_lvm.plugin_api import (
    AbsentError,
    AbsolutePath,
    Account,
    Application,
    ApplicationSettings,
    ApplicationType,
    BusyError,
    DataPath,
    Intent,
    ListOf,
    Probe,
    QuiesceError,
    client_process,
    hookimpl,
    permissions,
    required,
)
from borg_lvm_hooks.applications.sqlite.drill import SQLiteJudge

HERE = os.path.dirname(os.path.abspath(__file__))
HOLD, LOOK = os.path.join(HERE, "hold.py"), os.path.join(HERE, "look.py")
ROOM = 64 << 20
"""How many bytes of databases are checked altogether, before the backup command starts."""
TIMEOUT = 30.0
LOCKED = "database is locked"


@dataclass(frozen=True)
class Options:
    """Which databases."""

    databases: tuple[str, ...] = required(
        ListOf(AbsolutePath(), "a list of absolute paths"),
        "The database files. Their locks are taken in this order. All must have one owner, as whom they are opened.",
        ["/var/lib/shop/orders.db", "/var/lib/shop/stock.db"],
    )


class SQLite(Application):
    """Some databases of one application."""

    def __init__(self, settings: ApplicationSettings) -> None:
        self._options: Options = settings.options
        self._deadline = settings.deadline
        self._stack = ExitStack()
        self._holder: client_process.Child | None = None
        self._owner = Account(0, 0)

    def probe(self) -> Probe:
        """Open the databases; a file that is no database ends here."""
        paths = self._options.databases
        known = [_looked_at(path) for path in paths]
        if len({info.st_uid for info in known}) > 1:
            raise QuiesceError("the databases have several owners", remedy="make an entry for each owner")
        if self._holder is None:
            self._owner = Account.of(known[0].st_uid)
            # Who waits for a lock does not hold up others. All waits together end before the deadline.
            wait = self._deadline / (2 * len(paths))
            which = [f"{info.st_dev}:{info.st_ino}:{path}" for info, path in zip(known, paths, strict=True)]
            started = client_process.unseen([HOLD, f"{wait:g}", *which], self._owner, name="sqlite")
            self._holder = self._stack.enter_context(started)
            self._holder.lines_until("OPEN", TIMEOUT)
        return Probe("", tuple(DataPath(path, "database") for path in paths))

    def intents(self) -> Sequence[Intent]:
        """Have the watchdog end the program that holds the locks."""
        assert self._holder
        return [self._holder.intent]

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Have the program take the locks, and let go of them."""
        assert self._holder
        try:
            self._holder.go()
            self._holder.lines_until("READY", self._deadline)
            yield
        except BaseException as error:
            self._holder.kill()
            if isinstance(error, QuiesceError) and LOCKED in error.message:
                raise BusyError(error.message) from error
            raise
        self._holder.end()

    def confirm(self) -> str:
        """See whether the program still holds on."""
        assert self._holder
        if not self._holder.lives():
            raise QuiesceError("the locks were lost before the snapshots were there")
        return ""

    def close(self) -> None:
        """End the program."""
        self._stack.close()

    def verify(self, scratch: str) -> str:
        """Have another program check copies of the databases, if they are small; as the files' owner, too."""
        paths = self._options.databases
        directory = tempfile.mkdtemp(dir=scratch)
        os.chown(directory, self._owner.uid, self._owner.gid)
        with client_process.unseen([LOOK, directory, str(ROOM), *paths], self._owner, name="sqlite") as program:
            said = program.line(self._deadline)
        mark, _, checked = said.partition(" ")
        if mark != "LOOKED":
            raise QuiesceError(f"the snapshot is wrong: {checked}")
        return f"quick_check of {checked} of {len(paths)} databases, the headers of all"


def _looked_at(path: str) -> os.stat_result:
    """Look at a database without opening it. Raises: AbsentError; QuiesceError if root must not open it.

    SQLite removes files that a journal beside the database names: as its owner, and as root only where nobody else
    could have put it there.
    """
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AbsentError(f"there is no database {path}") from error
    except OSError as error:
        raise QuiesceError(f"cannot look at {path}: {error.strerror}") from error
    try:
        info = os.fstat(handle)
    finally:
        os.close(handle)
    if not stat.S_ISREG(info.st_mode):
        raise QuiesceError(f"{path} is no file")
    if info.st_uid == 0:
        _refuse_others(path)
    return info


def _refuse_others(path: str) -> None:
    try:
        changeable = permissions.changeable_by_others(path, permissions.Owner(0))
    except OSError as error:
        raise QuiesceError(f"cannot look at {path}: {error.strerror}") from error
    if changeable:
        raise QuiesceError(
            f"{path} is root's, and others could put another file there: root opens no database of theirs",
            details=tuple(f"{unsafe.path} {unsafe.why}" for unsafe in changeable),
            remedy="give the database to the user whose application it is",
        )


@hookimpl
def borg_lvm_application() -> ApplicationType:
    """Return the kind."""
    levels = {"lock": "writers wait while the instant passes (BEGIN IMMEDIATE); readers go on"}
    return ApplicationType(levels=levels, options=Options, make=SQLite, judge=SQLiteJudge)
