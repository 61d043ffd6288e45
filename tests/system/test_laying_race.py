"""Frozen paths are mounted while the owner of a directory exchanges names as fast as the kernel lets them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import namespaces, safe_open, syscalls
from borg_lvm.machine import mounts
from borg_lvm.planning.plan import ViewMount
from borg_lvm.view import mounting
from tests.system.support.attacks.attacker import RUNS

pytestmark = pytest.mark.limit(900)
TRIES = 1500 if RUNS else 300
AT_ONCE = 50
"""Tries of one child: a fork of the tests' own process costs far more than a try."""
FLIP = r"""
import ctypes, os, sys
libc, (one, other) = ctypes.CDLL(None), map(os.fsencode, sys.argv[1:])
while True:
    libc.renameat2(-100, one, -100, other, 2)
"""


class Ground:
    """A directory of ours in memory, seen once more as its own copy."""

    def __init__(self, top: Path) -> None:
        self.top, self.www, self.copy = top, top / "live" / "app" / "www", top / "copy"
        self.site, self.victim = self.www / "site", top / "victim"
        for directory in (self.site, self.victim, self.copy, top / "live" / "app" / "www2" / "site"):
            directory.mkdir(parents=True)
        (self.www / "evil").symlink_to(self.victim)
        (top / "live" / "app" / "evil").symlink_to(top)
        syscalls.mount(str(top / "live"), str(self.copy), None, syscalls.MS_BIND)

    def exchanged(self, pair: str) -> tuple[Path, Path]:
        """Two names that the attacker exchanges."""
        above = self.www.parent
        pairs = {"site": (self.site, self.www / "evil"), "above": (self.www, above / "www2")}
        return pairs.get(pair, (self.www, above / "evil"))


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    syscalls.mount("ground", str(tmp_path), "tmpfs", 0)
    try:
        yield Ground(Path(os.path.realpath(tmp_path)))
    finally:
        syscalls.umount(str(tmp_path), syscalls.MNT_DETACH)


@contextmanager
def exchanging(pair: tuple[Path, Path]) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", FLIP, *pair]) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL)


def covered(before: frozenset[int]) -> list[str]:
    return [mount.path for mount in mounts.read() if mount.id not in before]


def outcomes_of(lay: Callable[[], str]) -> Counter[str]:
    """Mount frozen paths, each in a mount namespace of its own, and count what came of it."""

    def some() -> str:
        home = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        words = []
        for _ in range(AT_ONCE):
            namespaces.make_own()
            words.append(lay())
            syscalls.setns(home, syscalls.CLONE_NEWNS)
        return "\n".join(words)

    found: Counter[str] = Counter()
    for _ in range(TRIES // AT_ONCE):
        told = namespaces.apart(some)
        assert told is not None, "the child that mounts frozen paths has failed"
        found.update(told.split("\n"))
    print(dict(found))
    return found


def by_descriptors(ground: Ground, known: safe_open.Identity) -> str:
    """Mount one frozen path, and say what came of it."""
    before = mounting.numbers()
    target = str(ground.site)
    view_mount = ViewMount(target, 0, "/live/app/www/site", target)
    step = mounting.Step("snapshot", f"{ground.copy}/app/www/site", target, view_mount)
    try:
        with mounting.Ground({target: known}, "", [step]) as made:
            done = made.mount_all()
        found = [mount for mount in mounts.read() if mount.id not in before]
        wrong = list(mounting.misplaced(found, done, "", [os.stat(ground.top).st_dev]))
        answer = "found out" if wrong else "laid"
    except (SnapshotError, OSError):
        answer = "refused"
    return "led away" if any("victim" in path for path in covered(before)) else answer


def by_name(ground: Ground) -> str:
    """Lay it as mount(2) does by itself: what the judge must be able to see."""
    before = mounting.numbers()
    try:
        syscalls.mount(str(ground.copy / "app"), str(ground.site), None, syscalls.MS_BIND)
    except OSError:
        return "refused"
    return "led away" if any("victim" in path for path in covered(before)) else "laid"


@pytest.mark.each_value
@pytest.mark.parametrize("way", ["openat2", "walk"])
@pytest.mark.parametrize("pair", ["site", "above", "link above"])
def test_no_cover_is_ever_led_away(ground: Ground, pair: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = safe_open.seen(str(ground.site))
    assert known
    if way == "walk":
        monkeypatch.setattr(syscalls, "openat2", refused)
    with exchanging(ground.exchanged(pair)):
        outcomes = outcomes_of(lambda: by_descriptors(ground, known))
    assert outcomes["led away"] == 0, outcomes
    assert outcomes["laid"], outcomes
    assert outcomes["refused"] + outcomes["found out"], outcomes


def test_by_its_name_it_is(ground: Ground) -> None:
    with exchanging(ground.exchanged("site")):
        outcomes = outcomes_of(lambda: by_name(ground))
    assert outcomes["led away"], outcomes


def refused(*_: object) -> int:
    """Answer as a sandbox does."""
    raise OSError(1, "openat2")
