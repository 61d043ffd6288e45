"""What a judge works with, in its sandbox: it reports by a pipe, runs programs, and has servers run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.errors import QuiesceError
from borg_lvm.linux import subprocesses
from borg_lvm.plugins.backup_command import NOTHING
from borg_lvm.plugins.drill import ArchiveWrongError
from borg_lvm.records import dataclass

KEPT = 1 << 20
"""How many bytes are kept of what a server says: the last ones."""
SHOWN = 10
"""How many lines of that an error shows."""
REASON = re.compile(r"\b(FATAL|PANIC|ERROR|[Ff]atal|[Bb]ad)\b")
"""Lines that say why a server has ended, if there are any; a log's last lines say that it shuts down."""
LOOK_AGAIN = 0.1
PATIENCE = 300.0
"""Seconds in which a server must end when it is stopped."""


@dataclass
class SandboxBench:
    """A `Bench`; `end` is when (monotonic) the time is up: a judge that takes longer is ended from outside."""

    scratch: str
    pipe: int
    end: float
    _servers: int = 0

    def report(self, **fact: object) -> None:
        """Report a fact: a JSON object on a line of its own."""
        data = json.dumps(fact).encode() + b"\n"
        while data:
            data = data[os.write(self.pipe, data) :]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Take the time of the block."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.report(phase=name, seconds=round(time.monotonic() - begin, 3))

    def right(self, what: str) -> None:
        """Report what is right."""
        self.report(right=what)

    def wrong(self, what: str) -> None:
        """Report what is wrong."""
        self.report(wrong=what)

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING, stdin: bytes = b"") -> str:
        """Run a program to its end; with a scrubbed environment, and `env`. Raises: ProgramError."""
        return subprocesses.run(argv, env=env, stdin=stdin, timeout=max(1.0, self.end - time.monotonic()))

    @contextmanager
    def server(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> Iterator[RunningServer]:
        """Have a server run for the length of the block. Raises: ProgramError when it cannot be started."""
        self._servers += 1
        path = os.path.join(self.scratch, f"server-{self._servers}.log")
        with open(path, "wb") as log:
            environment = {**subprocesses.environment(), **env}
            process = subprocesses.started(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.scratch
            )
        try:
            yield RunningServer(process, argv[0], path)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass(frozen=True)
class RunningServer:
    """A `Server`."""

    process: subprocess.Popen[bytes]
    program: str
    log: str

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Ask again and again, until the time of the whole drill is up.

        Raises: ArchiveWrongError; QuiesceError when somebody has killed it: no archive does that.
        """
        while not ready():
            if self.process.poll() == -signal.SIGKILL:
                raise QuiesceError(f"{os.path.basename(self.program)} was killed before {what}: for want of memory?")
            if self.process.poll() is not None:
                said = [line for line in self.said().splitlines() if line.strip()]
                lines = ([line for line in said if REASON.search(line)] or said)[-SHOWN:]
                name = os.path.basename(self.program)
                raise ArchiveWrongError(
                    f"{name} ended with status {self.process.returncode} before {what}", details=tuple(lines)
                )
            time.sleep(LOOK_AGAIN)

    def said(self) -> str:
        """Return what it has said, or the last of it."""
        with open(self.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - KEPT))
            return file.read().decode(errors="replace")

    def stop(self, signum: int) -> int:
        """Have it end. Raises: ArchiveWrongError when it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            name = os.path.basename(self.program)
            raise ArchiveWrongError(f"{name} did not end within {PATIENCE:g} s after signal {signum}") from error
