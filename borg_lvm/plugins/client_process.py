r"""A program that holds a session for a plugin: a database's own client, or anything that stops when its input ends.

    with child.started(["psql", …]) as session:
        session.say("SELECT 1;\n")
        line = session.line(seconds=5)

It gets a scrubbed environment and a session of its own. Whatever it holds must end with it: it is ended with the block,
it sees the end of its input if we are killed, and `intent` has the watchdog kill it if we hang.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.errors import BusyError, QuiesceError
from borg_lvm.linux import processes, subprocesses
from borg_lvm.plugins.application import END_PROCESS, Intent

PATIENCE = 5.0
UNSEEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unseen_process.py")
MOST, MOST_LINES = 16 << 20, 100_000
"""How much one answer may be, in bytes and in lines: who says more than that never ends."""
KEPT = 64 << 10
"""How many bytes are kept of what nobody asked for: the last ones."""
SHOWN = 2000
REASON = re.compile(r"ERROR|FATAL|^(DETAIL|HINT): ")
"""Lines that say why. Since PostgreSQL 16 the detail names the right that is missing; the error does not."""


class Child:
    """A program that gets commands on its standard input. What it says, on either output, comes by lines."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self._process = process
        self._name = name
        self._waiting = b""

    @property
    def intent(self) -> Intent:
        """What undoes all that the program holds, if nobody else does: its end."""
        pid = self._process.pid
        return Intent((END_PROCESS, str(pid), processes.stat_fields(pid)[19].decode()))

    def go(self) -> None:
        """Have what `waiting` has started begin. Raises: QuiesceError."""
        self.say("go\n")

    def say(self, text: str) -> None:
        """Write to its standard input. Raises: QuiesceError when it has ended."""
        assert self._process.stdin
        if self._process.stdin.closed:
            raise QuiesceError(f"{self._name} has ended")
        try:
            self._process.stdin.write(text.encode())
        except BrokenPipeError as error:
            raise QuiesceError(f"{self._name} has ended{self._last_words()}") from error

    def line(self, seconds: float) -> str:
        """Return the next line that it says.

        Raises: BusyError when it says nothing within so many seconds, QuiesceError when it ends.
        """
        end = time.monotonic() + seconds
        while b"\n" not in self._waiting:
            if len(self._waiting) > MOST:
                raise self._endless()
            more = self._more(max(0.0, end - time.monotonic()))
            if more is None:
                raise BusyError(f"{self._name} did not answer within {seconds:g} s")
            if not more:
                raise QuiesceError(f"{self._name} has ended{self._last_words()}")
        line, _, self._waiting = self._waiting.partition(b"\n")
        return os.fsdecode(line)

    def heard(self) -> bool:
        """Whether it has said a line, or ended: `line` does not wait then."""
        return b"\n" in self._waiting or self._more(0.0) == b"" or b"\n" in self._waiting

    def lines_until(self, mark: str, seconds: float) -> list[str]:
        """Return the lines that it says before the line `mark`; each may take so many seconds.

        Raises: BusyError when it says nothing for so long, QuiesceError when it ends: with its errors, or else all that
        it said.
        """
        lines: list[str] = []
        size = 0
        try:
            while (line := self.line(seconds)) != mark:
                lines.append(line)
                size += len(line)
                if size > MOST or len(lines) > MOST_LINES:
                    lines.clear()
                    raise self._endless()
        except QuiesceError as error:
            reasons = [line.strip() for line in lines if REASON.search(line)] or lines
            raise type(error)(": ".join([error.message, *([" ".join(reasons)[:SHOWN]] if reasons else [])])) from error
        return lines

    def _endless(self) -> QuiesceError:
        """Kill it; return what to raise."""
        self.kill()
        self._waiting = b""
        return QuiesceError(f"{self._name} gave an answer of more than {MOST >> 20} MiB, or {MOST_LINES} lines")

    def lives(self) -> bool:
        """Whether it has neither ended nor said anything that nobody asked for."""
        return not self._waiting and self._more(0.0) is None and self._process.poll() is None

    def end(self) -> None:
        """Close its input and wait for its end; kill it if it does not come to that soon. A second time does nothing.

        Raises: QuiesceError when it had to be killed, or fails.
        """
        assert self._process.stdin
        if self._process.returncode is not None:
            return
        self._process.stdin.close()
        status = self.status(PATIENCE)
        if status is None:
            raise QuiesceError(f"{self._name} did not end with its input and was killed")
        if status:
            raise QuiesceError(f"{self._name} failed with status {status}{self._last_words()}")

    def status(self, seconds: float) -> int | None:
        """Wait for its end and return its exit status; None, and it is killed, if that takes longer."""
        assert self._process.stdout
        end = time.monotonic() + seconds
        watch = os.pidfd_open(self._process.pid)
        try:
            heard = [watch, self._process.stdout.fileno()]
            while watch not in (ready := select.select(heard, [], [], max(0.0, end - time.monotonic()))[0]):
                if not ready:
                    self.kill()
                    return None
                if not self._more(0.0):  # it has closed its output, and goes on
                    heard = [watch]
                self._waiting = self._waiting[-KEPT:]
        finally:
            os.close(watch)
        return self._process.wait()

    def words(self) -> str:
        """Return what it has said, or the last of it, on one line."""
        heard = 0
        while heard < MOST and (more := self._more(0.0)):  # what it has started may go on
            heard += len(more)
            self._waiting = self._waiting[-KEPT:]
        return " ".join(os.fsdecode(self._waiting).split())

    def kill(self) -> None:
        """Kill it and what it has started, if it has not ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _more(self, seconds: float) -> bytes | None:
        """Read on; None when nothing comes in time, nothing at its end."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return None
        more = os.read(self._process.stdout.fileno(), 65536)
        self._waiting += more
        return more

    def _last_words(self) -> str:
        self._more(1.0)
        words = self.words()
        return f": {words}" if words else ""


@contextmanager
def started(
    argv: Sequence[str],
    *,
    name: str = "",
    env: Mapping[str, str] | None = None,
    user: subprocesses.Account | None = None,
    memory: int | None = None,
) -> Iterator[Child]:
    """Start a program, called `name` in errors; it ends with the block. `memory`: how many bytes of data it may have.

    Raises: ProgramError if it does not start.
    """
    with subprocesses.talking(argv, env=env, user=user, memory=memory) as process:
        child = Child(process, name or argv[0])
        try:
            yield child
            with suppress(QuiesceError):
                child.end()
        finally:
            child.kill()


@contextmanager
def unseen(argv: Sequence[str], user: subprocesses.Account, *, name: str = "") -> Iterator[Child]:
    """Start a program as `started` does, as a user whose other processes do not get to see what it sees.

    They could open files in the view that it runs in, by /proc/PID/root, and so keep the snapshots in use. Of a
    program whose name ends with `.py`, `main` is called in an isolated interpreter that has loaded it as root.
    Raises: ProgramError if no interpreter starts; what else goes wrong is said on a line, with an exit status of 1.
    """
    who = [str(user.uid), str(user.gid), ",".join(map(str, user.groups))]
    with started([sys.executable, "-I", "-S", UNSEEN, *who, *argv], name=name or argv[0]) as child:
        yield child


@contextmanager
def waiting(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """Start a shell that becomes a program when it reads `go`: its process is known before it does anything.

    A watchdog that knows it can end it, whatever it is at; without us it never begins.
    """
    shell = ["/bin/sh", "-c", 'read -r go && exec "$@"', "sh", *argv]
    with started(shell, name=argv[0], env=env) as child:
        yield child
