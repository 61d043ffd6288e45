"""Writers that run beside each other, and the judge of their copies: do all the copies show one instant?

Each writer writes the numbers 1, 2, 3 … to its own file and remembers when each write began and ended. A copy shows
the last number that was written before its instant. So the instant is not before the beginning of a write that it
shows, and not after the end of one that it does not show. If the latest such beginning lies after the earliest such
end, there is no one instant that all copies could show. The writers know nothing of each other: none waits for a volume
that stands still, which would hide a gap (a chain of writes over all volumes, each after the last, is a weak judge).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__)
WIDTH = 16
PACE = 0.004  # seconds between two writes: what the judge can tell apart, and what an emulated processor can bear


@dataclass(frozen=True)
class Writer:
    """One writer: `how` is "in-place" or "append", each "synced" or "buffered"; its file, and its diary in memory."""

    how: str
    file: Path
    diary: Path

    def diary_of_writes(self) -> list[tuple[int, int]]:
        """Return begin and end of each write, in nanoseconds; a write that was going on at the end is left out."""
        lines = self.diary.read_text().splitlines()
        return [(int(begin), int(end)) for begin, end in (line.split() for line in lines)]

    def shown(self, copy: Path) -> int:
        """Return the last number that a copy of the file shows."""
        with copy.open("rb") as file:
            if self.how.startswith("append"):
                file.seek(max(0, file.seek(0, os.SEEK_END) // WIDTH - 1) * WIDTH)
            return int(file.read(WIDTH).strip(b"\0") or b"0")


def gap(writers: Sequence[Writer], shown: Sequence[int]) -> float:
    """Return by how many seconds the copies miss one instant; below zero: by how much they have room."""
    begins, ends = [], []
    for writer, number in zip(writers, shown, strict=True):
        diary = writer.diary_of_writes()
        assert 0 < number < len(diary) - 1, f"{writer}: {number} of {len(diary)} writes: it did not write meanwhile"
        begins.append(diary[number - 1][0])
        ends.append(diary[number][1])
    return (max(begins) - min(ends)) / 1e9


@contextmanager
def writing(writers: Sequence[Writer]) -> Iterator[None]:
    """Let them write; their diaries are complete at the end of the block."""
    with ExitStack() as stack:
        for writer in writers:
            words: list[str | Path] = [sys.executable, "-I", "-S", PROGRAM, writer.how, writer.file, writer.diary]
            process = stack.enter_context(subprocess.Popen(words))
            stack.callback(process.send_signal, signal.SIGTERM)
        for writer in writers:
            while not writer.file.exists() or not writer.shown(writer.file):
                time.sleep(0.02)
        yield


def main(how: str, file: str, diary: str) -> None:
    """Write until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    synced, append = how.endswith("synced"), how.startswith("append")
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else 0), 0o600)
    written: list[tuple[int, int]] = []
    while not stop:
        line = b"%-15d\n" % (len(written) + 1)
        begin = time.monotonic_ns()
        if append:
            os.write(fd, line)
        else:
            os.pwrite(fd, line, 0)
        if synced:
            os.fdatasync(fd)
        written.append((begin, time.monotonic_ns()))
        time.sleep(PACE)
    with open(diary, "w", encoding="ascii") as out:
        out.writelines(f"{begin} {end}\n" for begin, end in written)


if __name__ == "__main__":
    main(*sys.argv[1:])
