"""A warm `lvm` shell: LVM's commands without the start of a program for each.

A command in it takes a tenth of the time of a program. The shell gives no exit status, so its user checks the
result of a command. An LVM built without readline has no shell: there each command is a program. Source: lvm(8).
"""

from __future__ import annotations

import os
import re
import select
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from borg_lvm.linux import subprocesses

_PATIENCE = 5.0
_NO_REASON = re.compile(
    r"THIS WILL DESTROY CONTENT OF LOGICAL VOLUME|"
    r'Logical volume "?\S+ (created|converted to snapshot|successfully)|'
    r"No such command 'borg-lvm-end-"
)
"""What LVM says of its work where nothing is wrong; the first is of `lvconvert`, and means the snapshot's own space."""


_FIELD = re.compile(r"LVM2_(\w+)='([^']*)'")
"""A field of a report with `--nameprefixes`. Source: lvmreport(7)."""
AS_ROWS = ("--nosuffix", "--noheadings", "--nameprefixes")
"""Options of a report that `rows` reads."""


class EndedError(subprocesses.ProgramError):
    """The shell is there no more."""


class LvmShell:
    """A shell that is ready."""

    def __init__(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        self._process = process
        self._timeout = timeout
        self._number = 0
        self.run(["version"])

    @property
    def pid(self) -> int:
        """The shell's process id."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether it is there no more."""
        return self._process.poll() is not None

    def run(self, argv: Sequence[str]) -> list[str]:
        """Run one command and return what it said, on either stream. It does not say whether it did its work.

        Raises: ProgramError when the shell ends, or has not come to the command's end at the time limit (in seconds).
        """
        # The shell names a command that it does not know: that marks the end of the one before it.
        self._number += 1
        mark = f"borg-lvm-end-{self._number}"
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{shlex.join(argv)}\n{mark}\n".encode())
        return [line.strip() for line in self._until(mark.encode(), argv)]

    def _until(self, mark: bytes, argv: Sequence[str]) -> list[str]:
        assert self._process.stdout
        end = time.monotonic() + self._timeout
        data = b""
        while b"\n" not in data[data.find(mark) if mark in data else len(data) :]:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            more = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not more:
                if ready:
                    raise EndedError(["lvm", *argv], "shell ended", os.fsdecode(data))
                why = f"shell did not end a command within {self._timeout:g} s"
                raise subprocesses.ProgramError(["lvm", *argv], why, os.fsdecode(data))
            data += more
        return os.fsdecode(data[: data.find(mark)].rpartition(b"\n")[0]).splitlines()


class LvmPrograms:
    """LVM's commands where it has no shell: a program for each. It returns no more than the shell would."""

    pid = None

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def has_ended(self) -> bool:
        """Whether it is there no more: there is none that could end."""
        return False

    def run(self, argv: Sequence[str]) -> list[str]:
        """Run one command, as `LvmShell.run`. Raises: ProgramError when it did not end by itself."""
        try:
            said = subprocesses.run(argv, timeout=self._timeout)
        except subprocesses.ProgramError as error:
            if not error.returncode:
                raise
            said = error.stderr
        return [line.strip() for line in said.splitlines()]


Shell = LvmShell | LvmPrograms


def rows(said: Sequence[str], fields: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a report with `--nameprefixes` in which all of these fields are, and nothing else. Pure."""
    found = [{name.lower(): value for name, value in _FIELD.findall(line)} for line in said]
    return [row for row in found if set(row) == set(fields)]


def only_rows(said: Sequence[str], fields: Sequence[str]) -> list[dict[str, str]] | None:
    """Return the rows of such a report; None if anything else was said: a warning, an error, a row of another form."""
    lines = [line for line in said if line]
    found = rows(lines, fields)
    return found if len(found) == len(lines) and not any(_FIELD.sub("", line).strip() for line in lines) else None


def reasons(said: Sequence[str]) -> tuple[str, ...]:
    """Return why a command has failed, from what it said: its errors, or its warnings if there are no errors. Pure."""
    lines = [line for line in dict.fromkeys(said) if line and not _NO_REASON.match(line)]
    return tuple([line for line in lines if not line.startswith("WARNING:")] or lines)


@contextmanager
def started(timeout: float) -> Iterator[Shell]:
    """Start a shell; it ends with the block, or by itself if we die: LVM first comes to the end of its command."""
    with subprocesses.talking(["lvm"]) as process:
        try:
            yield _ready(process, timeout)
            assert process.stdin
            process.stdin.close()
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()


def _ready(process: subprocess.Popen[bytes], timeout: float) -> Shell:
    try:
        return LvmShell(process, timeout)
    except EndedError:
        return LvmPrograms(timeout)


class KeptShell:
    """A shell that several have one after the other: a start takes ten times as long as what is typed into it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._shell: Shell | None = None

    def shell(self, timeout: float) -> Shell:
        """Return the shell, which is started if there is none; `timeout` is in seconds. Raises: ProgramError."""
        if self._shell is None or self._shell.has_ended():
            self.close()
            self._shell = self._stack.enter_context(started(timeout))
        return self._shell

    @contextmanager
    def last(self, timeout: float) -> Iterator[Shell]:
        """Give the shell for the length of the block, with which it ends."""
        try:
            yield self.shell(timeout)
        finally:
            self.close()

    def close(self) -> None:
        """End the shell."""
        self._shell = None
        self._stack.close()
