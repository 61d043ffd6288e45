"""An application without a plugin of its own: it writes down, in a directory, the words that come by a pipe there.

Run as a unit or in a container, it is all in shell. `Words` is a client of it.
"""

from __future__ import annotations

import os
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from borg_lvm.testing import Subject
from tests.system.support.runs.live import Programs, borg_lvm_argv
from tests.system.support.runs.program import run

PAUSE = 1.0  # seconds that are put before each snapshot, so that those of a control are apart
SCRIPT = """#!/bin/sh
# {directory}/pipe is open for both sides, so that reading goes on when a client has gone.
[ -p {directory}/pipe ] || mkfifo {directory}/pipe
trap '[ -e {directory}/stubborn ] || exit 0' TERM
while :; do
    IFS= read -r word <&3 || continue
    echo "$word" >>{directory}/words
done 3<>{directory}/pipe
"""
COUNTER = """#!/bin/sh
# Writes the same number to both folders, one after the other, for ever; over the last one, so that there always is one.
n=0
while :; do
    n=$((n + 1))
    printf '%08d\\n' $n 1<>{one}/n
    printf '%08d\\n' $n 1<>{two}/n
    sleep 0.05
done
"""


def script(path: Path, text: str) -> Path:
    """Write a program."""
    path.write_text(text)
    path.chmod(0o755)
    return path


def torn(config: Sequence[str | Path], one: Path, two: Path, programs: Path) -> tuple[int, int]:
    """Back up the counter's two volumes, each at an instant of its own; return what the copies show.

    `programs` is a new directory for what keeps the instants apart.
    """
    slow = Programs(programs)
    slow.delay("lvm", PAUSE)
    words = [*config, "--consistency", "per-volume", "--", "cat", one / "n", two / "n"]
    first, second = map(int, run(*borg_lvm_argv("run", *words, programs=slow)).out.split())
    return first, second


class Words:
    """A client of the worker in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, seconds: float) -> bool:
        """Send a word; tell whether it was written down within so many seconds."""
        word = uuid.uuid4().hex
        end = time.monotonic() + seconds
        sent = False
        while time.monotonic() < end:
            sent = sent or self._sent(word)
            if sent and word in self._written():
                return True
            time.sleep(0.005)
        return False

    def _sent(self, word: str) -> bool:
        """Send a word, if anybody has the pipe open."""
        with suppress(OSError):
            pipe = os.open(self.directory / "pipe", os.O_WRONLY | os.O_NONBLOCK)
            try:
                return stat.S_ISFIFO(os.fstat(pipe).st_mode) and os.write(pipe, f"{word}\n".encode()) > 0
            finally:
                os.close(pipe)
        return False

    def _written(self) -> str:
        with suppress(FileNotFoundError):
            return (self.directory / "words").read_text()
        return ""


class WorkerSubject(Subject):
    """The worker in a directory, for the contract; how it is started and stopped is said by those that inherit this."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.words = Words(data)

    def write(self, seconds: float) -> bool:
        return self.words.write(seconds)

    def keeps(self) -> list[str]:
        return [str(self.data)]

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Have it wait in the kernel, for a file system that stands still."""
        run("fsfreeze", "--freeze", self.data)
        try:
            self.words.write(0.5)
            yield
        finally:
            run("fsfreeze", "--unfreeze", self.data)

    def thawed_for_a_moment(self, group: Path) -> bool:
        """Thaw its control group behind the plugin's back: it is frozen again when the plugin looks."""
        freeze = group / "cgroup.freeze"
        freeze.write_text("0")
        assert self.words.write(20)
        freeze.write_text("1")
        time.sleep(0.05)  # the kernel tells of changes that follow each other quickly once, and later
        return True
