"""borg-lvm for other programs: `plan`, `run`, and `frozen`, a view of frozen files for the length of a block.

Each starts the program `borg-lvm`, so it does not matter how many threads its caller has or what it does with signals.
What borg-lvm says goes to the logger `borg_lvm` of the standard library. Only root may call them.

This module is all that is public, with `errors.BorgLvmError`: every error of borg-lvm's own is one, with its exit
`status` (docs/reference.md), `message`, `details` and `remedy`.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from borg_lvm import errors
from borg_lvm.errors import BorgLvmError, UsageError
from borg_lvm.linux import processes
from borg_lvm.records import dataclass
from borg_lvm.view import host_view

__all__ = ["BorgLvmError", "Options", "View", "frozen", "plan", "run"]

_LOGGER = logging.getLogger("borg_lvm")
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_REMEDY = "what to do: "


@dataclass(frozen=True)
class Options:
    """What the command line's options say, for all calls; what is not given is as configured.

    `live` are paths that stay live, `live_types` types of file systems that do; `config` is a file to read instead of
    the usual ones; `snapshot_size` as in `20%ORIGIN`; `consistency` is `instant` or `per-volume`; `lock_wait` in
    seconds; `hooks` are plugins to load too.
    """

    live: Sequence[str] = ()
    config: str = ""
    snapshot_size: str = ""
    consistency: str = ""
    lock_wait: float | None = None
    hooks: Sequence[str] = ()
    live_types: Sequence[str] = ()

    def _words(self) -> list[str]:
        words = [word for path in self.live for word in ("--live", path)]
        words += [word for kind in self.live_types for word in ("--live-type", kind)]
        words += [word for name in self.hooks for word in ("--hook", name)]
        given = {"--config": self.config, "--snapshot-size": self.snapshot_size, "--consistency": self.consistency}
        words += [word for option, value in given.items() if value for word in (option, value)]
        return words + (["--lock-wait", f"{self.lock_wait:g}"] if self.lock_wait is not None else [])


_AS_CONFIGURED = Options()


@dataclass(frozen=True)
class View:
    """Frozen files, read-only: those of a source path `p` are at `path(p)`. `directory` is where all of them are."""

    name: str
    directory: str

    def path(self, source: str) -> str:
        """Return where a path that is frozen, or lies below one that is, is found in the view."""
        inside = os.path.abspath(source)
        return self.directory if inside == "/" else self.directory + inside


def plan(
    command: Sequence[str] = (), *, paths: Sequence[str] = (), options: Options = _AS_CONFIGURED
) -> dict[str, Any]:
    """Return what `run` would do, and do nothing: the object that `borg-lvm plan --json` prints.

    Without a command, `paths` are what is asked about. Raises: BorgLvmError.
    """
    words = ["plan", "--json", *_paths(paths), *options._words(), "--", *(command or ("true",))]
    _, out = _borg_lvm(words)
    certificate: dict[str, Any] = json.loads(out)
    return certificate


def run(command: Sequence[str], *, paths: Sequence[str] = (), options: Options = _AS_CONFIGURED) -> int:
    """Run a command on frozen files under their usual paths, and return its exit status.

    `paths` are its source paths, if it is not a program whose command line borg-lvm understands. Its standard input and
    output are ours; its standard error is passed on. A signal that ended it gives 128 and its number.
    Raises: BorgLvmError, also when the command ran but what it saved is invalid (its `status` is 74).
    """
    words = ["run", *_paths(paths), *options._words(), "--", *command]
    status, _ = _borg_lvm(words, inherit=True)
    return status


@contextmanager
def frozen(
    paths: Sequence[str], *, name: str = "", limit: float | None = None, options: Options = _AS_CONFIGURED
) -> Iterator[View]:
    """Have snapshots of these paths for the length of the block, all of one instant.

    `name` gives the view a path that is the same each time; without one it has a new one. It stands for `limit` seconds
    at most. An exception that ends the block is passed on when all is released.
    Raises: BorgLvmError before the block when nothing could be frozen; after it, with the status 74, when what was read
    in it is invalid, or with 64 when this process still uses a file of it: then it still stands.
    """
    name = name or f"python-{os.getpid()}-{os.urandom(4).hex()}"
    more = ["--limit", f"{limit:g}"] if limit is not None else []
    _, out = _borg_lvm(["begin", name, "--print", "directory", *more, *_paths(paths), *options._words()])
    status = 1
    try:
        yield View(name, out.rstrip("\n"))
        status = 0
    finally:
        _refuse_to_be_ended(name)
        config = ["--config", options.config] if options.config else []
        _borg_lvm(["end", name, "--status", str(status), *config])


def _refuse_to_be_ended(name: str) -> None:
    """Raise UsageError if we still use a file of a view, for a process that does is ended with it."""
    if host_view.snapshots(host_view.place(name)) & processes.devices_of(os.getpid()):
        raise UsageError(
            f"this process still uses a file of the view {name}, which therefore stays mounted",
            remedy=f"close what was opened in the block before it ends; now: borg-lvm end {name}",
        )


def _paths(paths: Sequence[str]) -> list[str]:
    if isinstance(paths, str):  # a sequence as well, of letters, of which one is the root
        raise TypeError(f"paths is a list of paths, not {paths!r} alone")
    return [word for path in paths for word in ("--path", path)]


def _borg_lvm(words: Sequence[str], *, inherit: bool = False) -> tuple[int, str]:
    """Run borg-lvm; return its exit status and what it wrote. Raises: BorgLvmError if it says that it has failed."""
    verb, *rest = words
    argv = [sys.executable, "-P", "-m", "borg_lvm", verb, "--log-json", *rest]
    with subprocess.Popen(
        argv,
        stdin=None if inherit else subprocess.DEVNULL,
        stdout=None if inherit else subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr
        failures: list[Mapping[str, Any]] = []
        listener = threading.Thread(target=_listen, args=(process.stderr, failures), daemon=True)
        listener.start()
        out = process.stdout.read() if process.stdout else b""
        listener.join()
    status = process.returncode if process.returncode >= 0 else 128 - process.returncode
    matching = [failure for failure in failures if failure.get("status") == status]
    if matching:
        raise _error(status, str(matching[-1]["message"]))
    if process.returncode < 0:
        raise _error(status, f"borg-lvm was ended by signal {-process.returncode}")
    return status, os.fsdecode(out)


def _listen(said: IO[bytes], failures: list[Mapping[str, Any]]) -> None:
    """Hand our messages to the logger, and pass on all else."""
    for line in said:
        message = _message(line)
        if message is None:
            sys.stderr.write(line.decode("utf-8", "backslashreplace"))
            sys.stderr.flush()
            continue
        _LOGGER.log(_LEVELS.get(str(message["level"]), logging.INFO), "%s", message["message"])
        if message["level"] == "error":
            failures.append(message)


def _message(line: bytes) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"time", "level", "message"} <= record.keys() else None


def _error(status: int, text: str) -> BorgLvmError:
    """Return the error that was reported, of the class that has its status."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BorgLvmError)]
    kind = next((kind for kind in kinds if kind.status == status and kind is not BorgLvmError), BorgLvmError)
    message, *details = text.split("\n")
    remedy = details.pop().removeprefix(_REMEDY) if details and details[-1].startswith(_REMEDY) else ""
    error = kind(message, remedy=remedy, details=tuple(details))
    error.status = status
    return error
