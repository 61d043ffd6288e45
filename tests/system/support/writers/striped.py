"""A log over several files, one record to each in turn, each record holding the hash of the one before; and its judge.

Every record is on the disk before the next is begun. So at every instant the files hold the records from the first to
some last one, with none missing, and no fewer than the writer has told of.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__)
PACE = 0.005  # seconds between two records: the others want to go on, too


@dataclass(frozen=True)
class Log:
    """The files of a log, and the one in which its writer tells of the last record that is safe."""

    files: tuple[Path, ...]
    told: Path

    def acknowledged(self) -> int:
        """Return the number of the last record that is safe."""
        return int(self.told.read_text() or "0")

    @contextmanager
    def written(self) -> Iterator[None]:
        """Have it written for the length of the block."""
        self.told.touch()
        words: list[str | Path] = [sys.executable, "-I", "-S", PROGRAM, self.told, *self.files]
        with subprocess.Popen(words) as writer:
            try:
                while self.acknowledged() < 2 * len(self.files):
                    time.sleep(0.02)
                    assert writer.poll() is None
                yield
            finally:
                writer.send_signal(signal.SIGTERM)


def record(number: int, before: str) -> str:
    """Return a record: its number, and a hash over that and the hash of the one before."""
    return f"{number} {hashlib.sha256(f'{number} {before}'.encode()).hexdigest()}"


def judge(copies: Sequence[str], acknowledged: int) -> list[str]:
    """Return what is wrong with the copies of a log's files, of which so many records were safe before the instant."""
    found, last = [], ""
    files = [copy.splitlines() for copy in copies]
    total = sum(map(len, files))
    for number in range(1, total + 1):
        lines = files[(number - 1) % len(files)]
        last = record(number, last.partition(" ")[2])
        place = (number - 1) // len(files)
        if place >= len(lines):
            found.append(f"of {total} records, number {number} is missing")
            break
        if lines[place] != last:
            found.append(f"record {number} is {lines[place]!r}")
            break
    if total < acknowledged:
        found.append(f"{acknowledged} records were safe, {total} are there")
    return found


def main(told: str, *files: str) -> None:
    """Write until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    fds = [os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC, 0o600) for file in files]
    diary = os.open(told, os.O_WRONLY)
    number, last = 0, ""
    while not stop:
        number += 1
        last = record(number, last.partition(" ")[2])
        os.write(fds[(number - 1) % len(fds)], f"{last}\n".encode())
        os.pwrite(diary, b"%012d" % number, 0)
        time.sleep(PACE)


if __name__ == "__main__":
    main(*sys.argv[1:])
