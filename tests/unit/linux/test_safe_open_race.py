"""Names are exchanged, removed and made anew by another process while `safe_open` works below their directory."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import safe_mount, safe_open, syscalls

pytestmark = pytest.mark.process
RUNS = int(os.environ.get("BORG_LVM_RUNS", "0"))
TRIES = 100_000 if RUNS else 1_500
SEED = int(os.environ.get("BORG_LVM_SEED", "1"))
ATTACKER = r"""
import ctypes, os, random, shutil, sys
top, out, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
draw = random.Random(seed)
libc = ctypes.CDLL(None)
names = ["a", "a/b", "a/b/c", "x", "a/x", "a/b/x", "y", "a/y"]

def made(path):
    kind = draw.randrange(6)
    if kind == 0:
        os.symlink(out, path)
    elif kind == 1:
        os.symlink(os.path.relpath(out, os.path.realpath(os.path.dirname(path))), path)
    elif kind == 2:
        os.symlink("..", path)
    elif kind == 3:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    else:
        os.makedirs(path + "/b/c", exist_ok=True)

print("ready", flush=True)
while True:
    one, other = (os.path.join(top, draw.choice(names)) for _ in range(2))
    if not all((os.path.realpath(os.path.dirname(path)) + "/").startswith(top + "/") for path in (one, other)):
        continue  # what is outside does not belong to the attacker
    try:
        what = draw.randrange(8)
        if what < 5:
            libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)
        elif what == 5:
            os.rename(one, other)
        elif what == 6 and not os.path.islink(one):
            shutil.rmtree(one) if os.path.isdir(one) else os.unlink(one)
        elif not os.path.lexists(one):
            made(one)
    except OSError:
        pass
"""
NAMES = ("a", "a/b", "a/b/c", "a/x", "x", "x/c", "a/b/x/inner", "y", "a/y/b")


class Ground:
    """A directory of the attacker's, and one beside it that nothing may be opened or made in."""

    def __init__(self, directory: Path) -> None:
        directory = Path(os.path.realpath(directory))
        self.top, self.out = directory / "top", directory / "out"
        (self.top / "a" / "b" / "c").mkdir(parents=True)
        for name in ("a", "b", "c", "x", "y", "inner"):
            (self.out / name / "b" / "c").mkdir(parents=True)
            (self.out / name / "c").mkdir(exist_ok=True)
        self.outside = self.found()
        self.forbidden = {os.stat(path).st_ino for path in (self.out, *self.out.rglob("*"), directory)}

    def found(self) -> list[str]:
        """Return all that lies in the directory beside."""
        return sorted(map(str, self.out.rglob("*")))

    @contextmanager
    def attacked(self) -> Iterator[None]:
        """Have another process at work in the block."""
        words = [sys.executable, "-c", ATTACKER, str(self.top), str(self.out), str(SEED)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == b"ready\n"
                yield
            finally:
                process.send_signal(signal.SIGKILL)


def looked(ground: Ground, fd: int) -> str:
    """Close a descriptor, and say whether it is of something beside."""
    inode = os.fstat(fd).st_ino
    os.close(fd)
    return "outside" if inode in ground.forbidden else "inside"


def opened(ground: Ground, name: str) -> str:
    return looked(ground, safe_open.opened(f"{ground.top}/{name}"))


def opened_below(ground: Ground, name: str) -> str:
    with safe_open.path(str(ground.top)) as at:
        return looked(ground, safe_open.opened(name, at))


def seen_again(ground: Ground, name: str) -> str:
    known = safe_open.seen(f"{ground.top}/{name}")
    if known is None:
        return "nothing"
    with safe_open.as_seen(f"{ground.top}/{name}", known) as fd:
        return looked(ground, os.dup(fd)) if safe_open.identity(fd) == known else "another"


def directories(ground: Ground, name: str) -> str:
    with safe_open.path(str(ground.top)) as at:
        return looked(ground, safe_open.directories(name, at))


def new_file(ground: Ground, name: str) -> str:
    with safe_open.path(f"{ground.top}/{name}", flags=safe_open.DIRECTORY) as directory:
        safe_open.new_file(directory, "label", b"x")
    return "inside"


def mount_point(ground: Ground, name: str) -> str:
    above, last = os.path.split(f"{ground.top}/{name}")
    with safe_open.path(above, flags=safe_open.DIRECTORY) as directory:
        safe_mount.mount_point(directory, last, directory)
    return "inside"


def by_name(ground: Ground, name: str) -> str:
    """Open as open(2) does: what the judge must be able to see."""
    return looked(ground, os.open(f"{ground.top}/{name}", os.O_PATH))


WAYS: list[Callable[[Ground, str], str]] = [opened, opened_below, seen_again, directories, new_file, mount_point]


def raced(ground: Ground, ways: list[Callable[[Ground, str], str]], tries: int, *until: str) -> Counter[str]:
    """Do things below the attacker's directory; returns what came of them.

    They are tried on, for a minute at most, until each outcome of `until` was
    seen: on a busy machine the attacker gets no turn during the first thousand.
    """
    draw, outcomes = random.Random(SEED), Counter[str]()
    latest = time.monotonic() + 60
    with ground.attacked():
        while outcomes.total() < tries or (not all(outcomes[one] for one in until) and time.monotonic() < latest):
            way = draw.choice(ways)
            try:
                outcomes[way(ground, draw.choice(NAMES))] += 1
            except (OSError, SnapshotError):
                outcomes["refused"] += 1
    return outcomes


@pytest.mark.parametrize("openat2", [True, False], ids=["openat2", "walk"])
def test_nothing_outside_is_opened_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, openat2: bool) -> None:
    def missing(*_: object) -> int:
        raise OSError(errno.ENOSYS, "openat2")

    if not openat2:
        monkeypatch.setattr(syscalls, "openat2", missing)
    ground = Ground(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    outcomes = raced(ground, WAYS, TRIES, "inside", "refused")
    assert outcomes["outside"] == outcomes["another"] == 0, outcomes
    assert outcomes["inside"], outcomes
    assert outcomes["refused"], outcomes
    assert ground.found() == ground.outside
    assert len(os.listdir("/proc/self/fd")) == before


def test_by_its_name_it_is(tmp_path: Path) -> None:
    assert raced(Ground(tmp_path), [by_name], 1, "outside")["outside"]
