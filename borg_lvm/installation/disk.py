"""Writes and removes the files of an installation, each at once: nobody reads half a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from borg_lvm.errors import ConfigError
from borg_lvm.installation import record
from borg_lvm.installation.files import InstalledFile

CONFIGURATION = "/etc/borg-lvm"
"""Holds pass phrases, maybe: root's alone."""


def present(paths: Iterable[str]) -> dict[str, str]:
    """Return the digests of those of the paths that are there. Raises: ConfigError."""
    contents = {}
    for path in paths:
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                contents[path] = record.NO_FILE
                continue
            with open(path, "rb") as file:
                contents[path] = record.digest(file.read())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return contents


def apply(wanted: list[InstalledFile], changes: record.Changes, at: str = record.PATH) -> None:
    """Write and remove what is to be, and record what is there then. Raises: ConfigError."""
    for file in changes.write:
        write(file)
    for path in changes.remove:
        _remove(path)
    if wanted:
        write(InstalledFile(at, record.written({file.path: record.digest(file.text.encode()) for file in wanted})))
    elif os.path.lexists(at):
        _remove(at)


def write(file: InstalledFile, root: str = "") -> None:
    """Write a file, and the directories that it lies in, below `root`. Raises: ConfigError."""
    path = root + file.path
    half = f"{path}.borg-lvm-new"
    before = os.umask(0o022)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(half)
        with open(half, "x", encoding="utf-8") as out:
            os.fchmod(out.fileno(), file.mode)
            out.write(file.text)
        os.rename(half, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        os.umask(before)


def make_configuration_directory(path: str = CONFIGURATION) -> None:
    """Make the directory of the configuration, for root alone, if it is not there. Raises: ConfigError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}") from error


def _remove(path: str) -> None:
    """Remove a file, and the directories of ours that are empty then: those with our name in theirs."""
    try:
        os.unlink(path)
        while "borg-lvm" in (path := os.path.dirname(path)):
            os.rmdir(path)
    except OSError as error:
        if os.path.isdir(path) and os.listdir(path):
            return
        raise ConfigError(f"{path} cannot be removed: {error.strerror}") from error
