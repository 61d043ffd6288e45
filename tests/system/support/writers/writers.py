"""Writers that run beside each other, and two judges of their copies: do all the copies show one instant?

Each writer writes the numbers 1, 2, 3 … and remembers when each write began and ended. A copy shows the last number
that was written before its instant, and all before it.

The strong judge: a writer for each file. The instant of a copy is not before the beginning of a write that it shows,
and not after the end of one that it does not show. If the latest such beginning lies after the earliest such end, there
is no one instant that all copies could show. The writers know nothing of each other: none waits for a volume that
stands still, which would hide a gap.

The chain: one writer that writes each number to one file after the other. Its judge needs no clock, and it is how
programs depend on the order of what they write; but it waits for whichever volume stands still, so it misses a gap
that is shorter than a write.
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
PAGE, PAGES = 4096, 32  # of a file that is written in place, from page to page: each number makes another one dirty
ROOM = PAGE * PAGES  # bytes that a file or a device takes that is written in place
PACE = 0.001  # seconds between two writes for each file there is: what an emulated processor can bear


@dataclass(frozen=True)
class Writer:
    """One writer: `how` is "in-place" or "append", each "synced" or "buffered".

    It writes to one file, or to each of several in their order. Its diary lies in memory.
    """

    how: str
    files: tuple[Path, ...]
    diary: Path

    def diary_of_writes(self) -> list[tuple[int, int]]:
        """Return begin and end of each write, in nanoseconds; a write that was going on at the end is left out."""
        lines = self.diary.read_text().splitlines()
        return [(int(begin), int(end)) for begin, end in (line.split() for line in lines)]

    def shown(self, copy: Path) -> int:
        """Return the last number that the copy of a file shows; those before it must all be there."""
        step, most = (WIDTH, copy.stat().st_size) if self.how.startswith("append") else (PAGE, PAGES)
        text = _beginning(copy, step * most)
        lines = [text[start : start + WIDTH] for start in range(0, len(text), step)]
        numbers = {int(line) for line in lines if len(line) == WIDTH and line.strip(b"\0")}
        last = max(numbers, default=0)
        assert numbers == set(range(max(1, last - most + 1), last + 1)), f"{copy}: it has {last}, but not all before it"
        return last


def gap(writers: Sequence[Writer], shown: Sequence[int]) -> float:
    """Return by how many seconds the copies miss one instant; below zero: by how much they have room."""
    begins, ends = [], []
    for writer, number in zip(writers, shown, strict=True):
        diary = writer.diary_of_writes()
        assert 0 < number < len(diary) - 1, f"{writer}: {number} of {len(diary)} writes: it did not write meanwhile"
        begins.append(diary[number - 1][0])
        ends.append(diary[number][1])
    return (max(begins) - min(ends)) / 1e9


def broken(shown: Sequence[int]) -> int:
    """Return by how many writes the copies of a chain miss one instant; 0: not at all.

    At any instant a file has the number of the one before it, or the one less: but in one place of the chain only.
    """
    ahead = max(later - earlier for place, earlier in enumerate(shown) for later in shown[place:])
    behind = shown[0] - min(shown) - 1
    return max(ahead, behind, 0)


def _beginning(file: Path, length: int) -> bytes:
    """Read so much of a file; a device has far more, which is not the writer's."""
    with file.open("rb") as opened:
        return opened.read(length)


@contextmanager
def writing(writers: Sequence[Writer]) -> Iterator[None]:
    """Let them write; their diaries are complete at the end of the block."""
    files = [file for writer in writers for file in writer.files]
    pace = str(PACE * max(len(files), 8))
    with ExitStack() as stack:
        for writer in writers:
            words: list[str | Path] = [sys.executable, "-I", "-S", PROGRAM, writer.how, pace, writer.diary]
            process = stack.enter_context(subprocess.Popen([*words, *writer.files]))
            stack.callback(process.send_signal, signal.SIGTERM)
        for file in files:
            while not file.exists() or not _beginning(file, ROOM).strip(b"\0"):
                time.sleep(0.02)
        yield


def main(how: str, pace: str, diary: str, *files: str) -> None:
    """Write until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    synced, append = how.endswith("synced"), how.startswith("append")
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else 0)
    fds = [os.open(file, flags, 0o600) for file in files]
    written: list[tuple[int, int]] = []
    while not stop:
        number = len(written) + 1
        line = b"%-15d\n" % number
        begin = time.monotonic_ns()
        for fd in fds:
            if append:
                os.write(fd, line)
            else:
                os.pwrite(fd, line, number % PAGES * PAGE)
            if synced:
                os.fdatasync(fd)
        written.append((begin, time.monotonic_ns()))
        time.sleep(float(pace))
    with open(diary, "w", encoding="ascii") as out:
        out.writelines(f"{begin} {end}\n" for begin, end in written)


if __name__ == "__main__":
    main(*sys.argv[1:])
