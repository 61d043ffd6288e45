"""Every way in which a run can fail, and the exit status of each: the one place that maps them.

The statuses follow sysexits.h where it has a word for the case. None of them falls into a range that borg,
restic or borgmatic read as success or as a warning (borg: 0, 1 and 100 to 127).
"""

from __future__ import annotations

import os
import signal


def shell_word(path: str) -> str:
    """Return a path as it is typed into a shell; one with control characters, or bytes that are no text, as `$'…'`."""
    if path.isprintable():
        import shlex

        return shlex.quote(path)
    plain = frozenset(range(32, 127)) - set(b"'\\")
    shown = (chr(byte) if byte in plain else f"\\{byte:03o}" for byte in os.fsencode(path))
    return f"$'{''.join(shown)}'"


class BorgLvmError(Exception):
    """An error that a person can act on: the message names the thing, what is wrong and what to do.

    `remedy` is printed on a line of its own; `details` are further lines (several sources at fault, an
    LVM program's own words); what a silent program said is no line.
    """

    status = 70

    def __init__(self, message: str, *, remedy: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = tuple(line for line in details if line.strip())


def with_notes(error: BaseException) -> str:
    """Return what an error says and what was noted of it on its way, on one line."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


class UsageError(BorgLvmError):
    """The command line cannot be understood."""

    status = 64


class ConfigError(BorgLvmError):
    """A configuration file is missing, unreadable, unsafe or says something unknown."""

    status = 65


class SourceError(BorgLvmError):
    """A source path cannot be frozen (not on LVM, no free space, a kind of volume that cannot be copied)."""

    status = 69


class SnapshotError(BorgLvmError):
    """Quiescing, snapshotting or mounting failed; everything done so far has been undone."""

    status = 71


class ForeignStateError(SnapshotError):
    """What we have written down could have been changed, or put there, by somebody else: it is not believed."""

    def __init__(self, path: str, why: str) -> None:
        quoted = shell_word(path)
        super().__init__(
            f"{path} {why}: what lies there could be another user's, and is not believed; nothing was done",
            remedy=f"find out who put it there (ls -la {quoted}), and remove it (rm -r {quoted}); it is made again. If "
            f"a run is under way, or has left something behind, make it root's alone instead: chown -h root:root "
            f"{quoted}; chmod go-w {quoted}",
        )


class LateError(SnapshotError):
    """Volumes were suspended for longer than they may, and have been resumed."""


class OutputError(BorgLvmError):
    """What was asked for cannot be printed."""

    status = 71


class ReaderGoneError(BorgLvmError):
    """The reader of our standard output wants no more. Others are ended by SIGPIPE then, without a word."""

    def __init__(self) -> None:
        super().__init__("nobody reads the output any more")
        self.status = 128 + signal.SIGPIPE


class QuiesceError(BorgLvmError):
    """An application could not be quiesced, or did not stay so until the snapshots were there; all has been undone."""

    status = 71


class AbsentError(QuiesceError):
    """The application is not there: its server is down, its unit unknown."""


class BusyError(QuiesceError):
    """The application could not be quiesced in time, or did not stay so: at another attempt it may."""


class SnapshotLostError(BorgLvmError):
    """A snapshot overflowed or vanished while the command ran: what it saved is invalid."""

    status = 74


class LockedError(BorgLvmError):
    """Another live run holds one of the volumes."""

    status = 75


class ReleaseError(BorgLvmError):
    """The command succeeded, but something that we made could not be removed."""

    status = 76


class DegradedError(BorgLvmError):
    """The command succeeded, but an application was not quiesced, or its snapshot is wrong, as the settings allow it.

    Or what it saved could not be read back.
    """

    status = 77


class CommandNotExecutableError(BorgLvmError):
    """The command exists but cannot be executed (as a shell's 126)."""

    status = 126


class CommandNotFoundError(BorgLvmError):
    """The command does not exist (as a shell's 127)."""

    status = 127


class InterruptedRunError(BorgLvmError):
    """A signal ended the run before the command was started; everything done so far has been undone."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.status = 128 + signum


BUG_STATUS = 70
"""Exit status of an exception that nobody expected."""
