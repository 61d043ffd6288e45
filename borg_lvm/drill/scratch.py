"""Scratch space of a drill in a directory: made below one that the user names, and removed whatever happens.

What is in it was restored as root with the owners that it had: nobody else may come there, before or afterwards.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from borg_lvm.drill import removal
from borg_lvm.errors import ReleaseError, UsageError
from borg_lvm.linux import permissions, safe_open
from borg_lvm.records import dataclass
from borg_lvm.state.ledger import Ledger, LedgerEntry

PREFIX = "borg-lvm-drill-"
STEP = "scratch"


@dataclass(frozen=True)
class Scratch:
    """Where a drill restores to: a directory of its own; `shown` is what it is called in reports."""

    directory: str
    shown: str


def refuse_unsafe(directory: str) -> None:
    """Raise UsageError unless a directory is there; ConfigError if others than root could change it."""
    if not os.path.isdir(directory):
        raise UsageError(f"--scratch {directory}: there is no such directory")
    permissions.refuse_writable_by_others(directory)


@contextmanager
def directory(above: str, ledger: Ledger) -> Iterator[Scratch]:
    """Have a new directory below one that is root's alone; it is removed when the block ends.

    Raises: OSError; ReleaseError when it cannot be removed.
    """
    path = os.path.join(os.path.realpath(above), f"{PREFIX}{ledger.run_id}")
    ledger.write(STEP, path=path)
    os.mkdir(path, 0o700)
    try:
        yield Scratch(path, path)
    finally:
        try:
            remove(path)
        except OSError as error:
            raise not_removed(path, error.strerror or str(error)) from error


def not_removed(what: str, why: str) -> ReleaseError:
    """Return the error of scratch space that is left."""
    return ReleaseError(f"the scratch space of the drill could not be removed: {what}: {why}", remedy="borg-lvm clean")


def remove(path: str) -> None:
    """Remove a scratch directory with all that is in it, through no link; nothing, if it is gone. Raises: OSError."""
    above, name = os.path.split(path)
    with suppress(FileNotFoundError), safe_open.path(above, flags=safe_open.DIRECTORY) as directory:
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            removal.remove(name, directory)


def left(entry: LedgerEntry | None) -> list[str]:
    """Remove what a dead drill has left, as its ledger says; return what cannot be removed."""
    problems = []
    for step in entry.named(STEP) if entry else ():
        path = str(step["path"])
        if os.path.basename(path) != f"{PREFIX}{entry.run_id if entry else ''}":
            problems.append(
                f"{path}, which the ledger names as the scratch space of a drill, and which does not look so"
            )
            continue
        try:
            remove(path)
        except OSError as error:
            problems.append(f"{path}, the scratch space of a drill: {error.strerror}")
    return problems
