"""Where the view daemon is found by the view's name: `/run/borg-lvm/named/NAME`.

The daemon holds `lock` for as long as it lives, takes one line from `socket`, and writes to `log` once its caller has
gone; `status` has how the run ended. The caller waits for the end of the connection, which the kernel brings about
even when the daemon is killed, and reads the rest from the files.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict

from borg_lvm.config.proof_settings import Mode
from borg_lvm.errors import LockedError, SnapshotError, UsageError
from borg_lvm.records import dataclass, field
from borg_lvm.state import directories, locks
from borg_lvm.state.directories import STATE

DIRECTORY = os.path.join(STATE, "named")
NAME = re.compile("[A-Za-z0-9_-]{1,64}")
END, ABANDON = "end", "abandon"
"""What a view daemon is sent: the backup has ended, by an `EndRequest`; or, by the next `begin`, nobody will say so."""
_LONGEST = 8 << 20
"""Bytes of a line: a command line and its environment, of which the kernel takes 6 MiB at most (execve(2))."""


@dataclass(frozen=True)
class EndRequest:
    """How the backup from a view has ended, and the command line that was it, if that is named: where and how it ran.

    `prove` is how much of what it has saved is to be read back; None: as the view was begun.
    """

    status: int
    prove: Mode | None = None
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"

    def to_json(self) -> str:
        """Return it as JSON, in a line of ASCII."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> EndRequest:
        """Read what `to_json` has written."""
        values = json.loads(text)
        return EndRequest(**{**values, "argv": tuple(values["argv"])})


def refuse_other_names(name: str) -> None:
    """Raise UsageError for what cannot be the name of a view."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a view",
            remedy="letters, digits, - and _ only, at most 64: it becomes the name of a directory",
        )


@dataclass
class ControlSocket:
    """The view daemon's side. The caller of `end` waits until the view daemon's process is gone."""

    directory: str
    _socket: socket.socket
    _lock: int

    @property
    def log(self) -> str:
        """The file for what the view daemon says when its caller has gone."""
        return os.path.join(self.directory, "log")

    def asked(self, seconds: float) -> str:
        """Wait for so long at most; return what we are sent, if anything: `end` and a request, or `abandon`."""
        if not select.select([self._socket], [], [], max(0.0, seconds))[0]:
            return ""
        connection, _ = self._socket.accept()
        connection.settimeout(1.0)
        try:
            word = _line(connection)
        except OSError:
            word = ""
        if not word:
            connection.close()
            return ""
        connection.detach()  # it ends with our process: only then is all done
        return word

    def close(self, status: int) -> None:
        """Write down how the run has ended."""
        with suppress(OSError):  # a full /run: the caller learns that nothing is known, which is an error
            directories.written(os.path.join(self.directory, "status"), str(status).encode())

    def forget(self) -> None:
        """Leave nothing behind: our caller is still there to hear how it ended."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _line(connection: socket.socket) -> str:
    """Read a line; nothing if it does not come to its end. Raises: OSError when nothing comes for a second."""
    data = b""
    while not data.endswith(b"\n"):
        more = connection.recv(1 << 16)
        data += more
        if not more or len(data) > _LONGEST:
            return ""
    return data.decode("ascii", "replace").strip()


@contextmanager
def opened(name: str) -> Iterator[ControlSocket]:
    """Be the view daemon, for the length of the block. What an earlier one has left is thrown away.

    Raises: LockedError when there is one already; SnapshotError when `/run` cannot be written.
    """
    directory = os.path.join(DIRECTORY, name)
    try:
        with directories.directory(directory, make=True):
            lock = directories.opened(_lock_of(name), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise _unwritten(error) from error
    try:
        if not locks.taken(lock):
            raise LockedError(f"the view {name} is being started by another process")
        for file in ("socket", "status", "log"):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, file))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bell:
            try:
                os.fchmod(bell.fileno(), 0o600)  # what the kernel makes of it at bind(2), whatever the umask
                bell.bind(os.path.join(directory, "socket"))
            except OSError as error:
                raise _unwritten(error) from error
            bell.listen(8)
            yield ControlSocket(directory, bell, lock)
    finally:
        os.close(lock)


def _lock_of(name: str) -> str:
    return os.path.join(DIRECTORY, name, "lock")


def _unwritten(error: OSError) -> SnapshotError:
    return SnapshotError(
        f"cannot keep a view in {DIRECTORY}: {error.strerror}; nothing was done",
        remedy=f"make room for {STATE}, which must be writable",
    )


def is_kept(name: str) -> bool:
    """Whether a view daemon of this name lives."""
    try:
        lock = directories.opened(_lock_of(name), os.O_RDWR)
    except OSError:
        return False
    try:
        return not locks.taken(lock)
    finally:
        os.close(lock)


def is_known(name: str) -> bool:
    """Whether there is anything of this name: a view daemon, or what one has left for the caller of `end`."""
    return os.path.isdir(os.path.join(DIRECTORY, name))


@dataclass(frozen=True)
class DaemonEnd:
    """How a view daemon ended: what it said last, and the exit status of its run, None if it was killed."""

    said: bytes
    status: int | None


def ask(name: str, word: str) -> DaemonEnd:
    """Send a view daemon a word and wait for its end. One that has ended already has left its answer, which is taken.

    Without a word it is only waited for.
    """
    directory = os.path.join(DIRECTORY, name)
    log = _opened(os.path.join(directory, "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line, suppress(OSError):
        line.connect(os.path.join(directory, "socket"))
        line.sendall(word.encode() + b"\n")
        while line.recv(1):
            pass
    while is_kept(name):  # it is on its way out for another reason, and heard us no more
        select.select([], [], [], 0.05)
    said = b""
    if log >= 0:
        with open(log, "rb") as file:
            said = file.read()
    status = _status(os.path.join(directory, "status"))
    shutil.rmtree(directory, ignore_errors=True)
    return DaemonEnd(said, status)


def _opened(path: str) -> int:
    try:
        return directories.opened(path, os.O_RDONLY)
    except OSError:
        return -1


def _status(path: str) -> int | None:
    try:
        with open(directories.opened(path, os.O_RDONLY), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
