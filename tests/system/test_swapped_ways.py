"""The way to a source is changed where nobody looks: beneath a mount, below another source, at the instant, by links.

A program then reads live files of root's by the name of a source, and the run must not say 0. Each attack was seen to
succeed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.attacks.attacker import NOBODY, ROUNDS, Attack, attacking, moment
from tests.system.support.runs.program import Said, borg_lvm, run

pytestmark = pytest.mark.limit(300 + 60 * ROUNDS)
TOP = Path("/srv/ways")
ALICE = TOP / "alice"
SECRET = "for root alone"
HEAD = r"""
import ctypes, os, sys, time
home, told = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)

def checked(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

os.setgroups([]); os.setgid(65534); os.setuid(65534)
libc.prctl(4, 1)
at = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
log = os.open(told, os.O_RDWR | os.O_APPEND)

def say(word):
    os.write(log, word.encode() + b"\n")

def wait(word):
    while word not in os.pread(log, 4096, 0):
        time.sleep(0.02)

def exchange(one, other):
    checked(libc.renameat2(at, one, at, other, 2))
"""
TAIL = r"""
say("ready")
wait(b"begun")
there()
say("exchanged")
wait(b"finished")
back()
say("back")
"""
BENEATH = r"""
checked(libc.unshare(0x10000000 | 0x20000))
for name, text in (("setgroups", "deny"), ("uid_map", "0 65534 1"), ("gid_map", "0 65534 1")):
    open("/proc/self/" + name, "w").write(text)
checked(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
os.chdir("/tmp")
checked(libc.syscall(155, b".", b"."))
checked(libc.umount2(b".", 2))
there = back = lambda: exchange(b"disk", b"evil")
"""
LINK = r"""
there = back = lambda: exchange(b"current", b"evil")
"""
HARD_LINK = r"""
def there():
    os.link("current", "kept", src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
    os.unlink("current", dir_fd=at)
    os.symlink("../secret", "current", dir_fd=at)

def back():
    os.unlink("current", dir_fd=at)
    os.link("kept", "current", src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
    os.unlink("kept", dir_fd=at)
"""


@pytest.fixture
def alice(rig: Rig) -> Iterator[Path]:
    """A directory of nobody's with a mount, a link and a directory in it; what is for root alone beside it."""
    rig.volume("ways", fs="ext4", at=TOP)
    ALICE.mkdir()
    (ALICE / "disk").mkdir()
    rig.volume("disk", fs="ext4", at=ALICE / "disk")
    for directory, text in (
        (TOP / "secret", SECRET),
        (TOP / "data", "page"),
        (ALICE / "dir", "page"),
        (ALICE / "disk", "page"),
    ):
        (directory / "etc").mkdir(parents=True)
        (directory / "etc" / "page").write_text(text)
    (TOP / "secret").chmod(0o700)
    (ALICE / "current").symlink_to("../data")
    (ALICE / "evil").symlink_to("../secret")
    for path in (ALICE, *ALICE.rglob("*")):
        os.lchown(path, NOBODY, NOBODY)
    yield ALICE
    assert rig.leftovers() == []


@contextmanager
def exchanging(attack: str, told: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have somebody else do something when the command has begun, and undo it when it has finished."""
    told.unlink(missing_ok=True)
    told.touch()
    told.chmod(0o666)
    with subprocess.Popen([sys.executable, "-c", HEAD + attack + TAIL, ALICE, told]) as process:
        try:
            while "ready" not in told.read_text():
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def attacked(attack: str, sources: Sequence[Path | str], read: Path | str) -> Said:
    """Back up sources, with a command that reads one of them while the attack is on."""
    told = TOP / "told"
    until = "until grep -q {} " + f"{told}; do sleep 0.05; done"
    script = (
        f"echo begun >>{told}; {until.format('exchanged')}; cat {read}/page; echo finished >>{told}; "
        f"{until.format('back')}"
    )
    paths = [word for source in sources for word in ("--path", source)]
    with exchanging(attack, told):
        said = borg_lvm("run", *paths, "--", "sh", "-c", script, status=None)
        assert "back" in told.read_text()
    return said


@pytest.mark.parametrize("source", ["disk", "disk/etc"])
def test_a_mount_is_moved_where_nothing_is_mounted(alice: Path, source: str) -> None:
    """In a namespace of the attacker's own: elsewhere the kernel refuses to move what is mounted on."""
    said = attacked(BENEATH, [alice / source], alice / "disk" / "etc")
    assert said.status == 74, said
    assert f"{alice}/disk was replaced or moved" in said.err


@pytest.mark.each_value
@pytest.mark.parametrize("attack", [LINK, HARD_LINK], ids=["exchanged", "linked"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside"])
@pytest.mark.parametrize("source", ["current", "current/", "current/etc"])
def test_a_link_leads_elsewhere_for_a_moment(alice: Path, source: str, beside: bool, attack: str) -> None:
    """`beside`: what it led to is shown by another source."""
    sources: list[Path | str] = [f"{alice}/{source}", *([TOP / "data"] if beside else [])]
    said = attacked(attack, sources, alice / "current" / "etc")
    assert said.status == 74, said


@pytest.mark.each_value
@pytest.mark.parametrize("way", ["dir", "current"])
@pytest.mark.parametrize("verb", ["begin", "run"])  # so that no row of make rest is the one that is skipped
def test_a_directory_that_was_a_link_at_the_instant(alice: Path, verb: str, way: str) -> None:
    """Below another source; before and after it is what it was when the run looked."""
    if verb == "begin" and way == "current":
        pytest.skip("a source that leads through a link is refused by begin")
    sources: list[Path | str] = ["--path", alice, "--path", alice / way / "etc"]
    for number in range(ROUNDS):
        with attacking(Attack(alice / way, alice / "evil", ["making", moment("taken", number)]), TOP / "told"):
            if verb == "run":
                said = borg_lvm("run", *sources, "--", "cat", alice / way / "etc" / "page", status=None)
            else:
                said = borg_lvm("begin", "ways", *sources, status=None)
                if said.status == 0:
                    said = run("cat", f"/run/borg-lvm/view/ways{alice}/{way}/etc/page", status=None)
                    borg_lvm("end", "ways", status=None)
        assert SECRET not in said.out, said
        assert said.status in (0, 71, 74), said
