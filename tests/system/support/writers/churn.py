"""Somebody who works in a directory without a pause: files come, grow, change in place, go, get other attributes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILES = 60
LARGEST = 40_000  # bytes: all together must not fill the snapshot of a small volume
PAUSE = 0.002  # seconds


@contextmanager
def churning(at: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have it going on in a new directory; the process may be stopped for a while."""
    at.mkdir()
    process = subprocess.Popen([sys.executable, __file__, at])
    try:
        while len(list(at.iterdir())) < FILES // 3:
            assert process.poll() is None
            time.sleep(0.05)
        yield process
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def change(at: Path, dice: random.Random) -> None:
    """Make one change."""
    one, other = (at / f"file{dice.randrange(FILES)}" for _ in range(2))
    what = dice.randrange(9)
    if what <= 2:
        one.write_bytes(dice.randbytes(dice.randrange(LARGEST)))
    elif what == 3:
        with open(one, "r+b") as file:  # the size stays
            file.write(dice.randbytes(dice.randrange(1, 100)))
    elif what == 4:
        one.unlink()
    elif what == 5:
        one.rename(other)
    elif what == 6:
        other.unlink(missing_ok=True)
        os.link(one, other)
    elif what == 7:
        one.chmod(dice.choice([0o600, 0o640, 0o644]))
        os.chown(one, dice.randrange(3), dice.randrange(3))
        os.setxattr(one, "user.turn", dice.randbytes(4))
    else:
        link = at / f"link{dice.randrange(9)}"
        link.unlink(missing_ok=True)
        link.symlink_to(one.name)


def main(at: str) -> None:
    """Make changes until the end."""
    dice = random.Random(1)
    while True:
        with suppress(FileNotFoundError):
            change(Path(at), dice)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main(sys.argv[1])
