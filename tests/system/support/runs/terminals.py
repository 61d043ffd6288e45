"""Programs on a terminal of their own, as a login shell's foreground job."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.support.runs.live import wait_for
from tests.system.support.runs.program import environment


@dataclass
class Terminal:
    """A program that has a terminal for itself, and the other side of that terminal."""

    process: subprocess.Popen[bytes]
    fd: int
    name: str
    shown: str = ""

    def type(self, keys: bytes) -> None:
        """Type something."""
        os.write(self.fd, keys)

    def read(self) -> str:
        """Return all that the program has shown so far."""
        while True:
            try:
                data = os.read(self.fd, 65536)
            except (BlockingIOError, OSError):
                return self.shown
            if not data:
                return self.shown
            self.shown += os.fsdecode(data)

    def shows(self, text: str) -> None:
        """Wait until it has shown a text."""
        wait_for(lambda: text in self.read() or self.process.poll() is not None, repr(text))
        assert text in self.read(), self.shown

    def wait(self) -> int:
        """Wait for the end and return the exit status."""
        return wait_for(lambda: (self.read(), self.process.poll() is not None)[1], "the end", 120) and self.status()

    def status(self) -> int:
        """Return the exit status."""
        assert self.process.returncode is not None
        self.read()
        return self.process.returncode


@contextmanager
def terminal(
    argv: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """Run a program as a login shell's foreground job: session, controlling terminal, process group."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    process = subprocess.Popen(
        [str(word) for word in argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(env),
        cwd=cwd,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )
    try:
        yield Terminal(process, ours, os.ttyname(theirs))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(theirs)
        os.close(ours)
