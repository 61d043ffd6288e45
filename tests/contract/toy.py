"""A small application: a process that appends what it is told to a file. Its plugin stops it by a signal."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from borg_lvm.errors import AbsentError, QuiesceError
from borg_lvm.plugins.application import Application, DataPath, Intent, Probe
from borg_lvm.testing import Subject

SERVER = 'trap "" USR1; echo begun; while read -r line; do echo "$line" >>data; echo taken; done'


class Toy(Application):
    """The plugin as it should be."""

    def __init__(self, directory: Path, deadline: float) -> None:
        self.directory = directory
        self.deadline = deadline
        self.pid = 0
        self.foreign = False
        # The lock of those who may stop the server. Opened here: in the window nothing is opened for writing.
        self.lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)

    def state(self) -> str:
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]

    def probe(self) -> Probe:
        try:
            self.pid = int((self.directory / "pid").read_text())
        except FileNotFoundError as error:
            raise AbsentError("the toy does not run") from error
        self.foreign = self.state() == "T"
        return Probe("1", (DataPath(str(self.directory / "data"), "data"),))

    def intents(self) -> Sequence[Intent]:
        return [] if self.foreign else [Intent(("kill", "-CONT", str(self.pid)))]

    def take_lock(self) -> None:
        end = time.monotonic() + self.deadline
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise QuiesceError("somebody else has stopped the toy") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        while self.state() != "T":
            time.sleep(0.01)

    def go(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        if self.foreign:
            yield
            return
        self.take_lock()
        try:
            self.stop()
            yield
        finally:
            self.go()
            fcntl.flock(self.lock, fcntl.LOCK_UN)

    def confirm(self) -> str:
        if self.state() != "T":
            raise QuiesceError("the toy was set going")
        return ""

    def verify(self, scratch: str) -> str:
        if (self.directory / "data").read_text().replace("word\n", ""):
            raise QuiesceError("the snapshot is wrong: the toy is never told anything but words")
        return "every word"

    def close(self) -> None:
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


class ToySubject(Subject):
    """A running toy."""

    def __init__(self, directory: Path, plugin: Callable[[Path, float], Application]) -> None:
        self.directory = directory
        self.plugin = plugin
        (directory / "data").touch()
        self.start()

    def start(self) -> None:
        self.server = subprocess.Popen(
            ["sh", "-c", SERVER], cwd=self.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.server.stdout
        assert self.server.stdout.readline() == b"begun\n"
        (self.directory / "pid").write_text(str(self.server.pid))

    def end(self) -> None:
        (self.directory / "pid").unlink()
        self.server.kill()
        with self.server:
            pass

    def make(self, deadline: float) -> Application:
        return self.plugin(self.directory, deadline)

    def write(self, seconds: float) -> bool:
        assert self.server.stdin
        assert self.server.stdout
        self.server.stdin.write(b"word\n")
        taken = bool(select.select([self.server.stdout], [], [], seconds)[0])
        if taken:
            time.sleep(0.05)  # for those of earlier writes that waited
            os.read(self.server.stdout.fileno(), 4096)
        return taken

    def keeps(self) -> Sequence[str]:
        return [str(self.directory / "data")]

    @contextmanager
    def gone(self) -> Iterator[None]:
        self.end()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def busy(self) -> Iterator[None]:
        with open(self.directory / "lock", "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.server.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.server.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            self.server.send_signal(signal.SIGCONT)

    @contextmanager
    def damaged(self) -> Iterator[None]:
        data = self.directory / "data"
        text = data.read_text()
        data.write_text(text + "wor")
        yield
        data.write_text(text)

    def lose(self) -> bool:
        self.server.send_signal(signal.SIGCONT)
        return True


class ExampleSubject(ToySubject):
    """The same for the plugin that the documentation shows: it keeps data in the directory, and confirms nothing."""

    def keeps(self) -> Sequence[str]:
        return [str(self.directory)]

    def busy(self) -> None:  # type: ignore[override]
        return None

    def stopped(self) -> None:  # type: ignore[override]
        return None

    def damaged(self) -> None:  # type: ignore[override]
        return None

    def lose(self) -> bool:
        return False
