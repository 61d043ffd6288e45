"""Programs that move files between two directories on two volumes, as mv(1) does, and the judge of a copy of both."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__)
SIZE = 4096  # bytes of a file
UNFINISHED = ".part"  # ends the name of a file that is not all there yet
PACE = 0.02  # seconds between two moves of one mover: the others want to go on, too


@dataclass(frozen=True)
class Mover:
    """One mover of `count` files: all of them to the other directory, then all of them back."""

    name: str
    here: Path
    there: Path
    count: int

    def files(self) -> dict[str, str]:
        """Return the names of its files and what is in them, which never changes."""
        names = [f"{self.name}-{number}" for number in range(self.count)]
        return {name: f"{name} " * (SIZE // (len(name) + 1)) for name in names}

    def lay_out(self) -> None:
        """Make its files."""
        for name, text in self.files().items():
            (self.here / name).write_text(text)


@contextmanager
def moving(movers: Sequence[Mover]) -> Iterator[None]:
    """Let them move their files, and see to it that they are at work."""
    with ExitStack() as stack:
        for mover in movers:
            mover.lay_out()
            words: list[str | Path] = [sys.executable, "-I", "-S", PROGRAM, mover.here, mover.there]
            process = stack.enter_context(subprocess.Popen([*words, *mover.files()]))
            stack.callback(process.send_signal, signal.SIGTERM)
        for mover in movers:
            while not any((mover.there / name).exists() for name in mover.files()):
                time.sleep(0.02)
        yield


@dataclass(frozen=True)
class Verdict:
    """Names of files that a copy does not have, has more often than a move explains, or has with other content."""

    lost: tuple[str, ...]
    twice: tuple[str, ...]
    changed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.lost)} lost, {len(self.twice)} twice, {len(self.changed)} changed"


def judge(movers: Sequence[Mover], contents: Mapping[str, str]) -> Verdict:
    """Judge a copy by the content of its files; what was still being written at its instant is no file yet."""
    found = defaultdict[str, list[str]](list)
    for path, content in contents.items():
        if not path.endswith(UNFINISHED):
            found[Path(path).name].append(content)
    wanted = {name: content for mover in movers for name, content in mover.files().items()}
    return Verdict(
        lost=tuple(name for name in wanted if name not in found),
        twice=tuple(name for name, copies in found.items() if len(copies) > 1),
        changed=tuple(name for name, copies in found.items() if set(copies) != {wanted[name]}),
    )


def main(here: str, there: str, *names: str) -> None:
    """Move until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    for source, target in itertools.cycle([(here, there), (there, here)]):
        for name in names:
            if stop:
                return
            move(f"{source}/{name}", f"{target}/{name}")
            time.sleep(PACE)


def move(source: str, target: str) -> None:
    """Move a file: it is safe in its new place before it leaves the old one."""
    with open(source, "rb") as old, open(target + UNFINISHED, "wb") as new:
        new.write(old.read())
        new.flush()
        os.fsync(new.fileno())
    os.rename(target + UNFINISHED, target)
    os.unlink(source)


if __name__ == "__main__":
    main(*sys.argv[1:])
