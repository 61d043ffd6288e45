"""Somebody is in the middle of writing to a file system, and does not end: the freeze waits, and all writers for it.

splice(2) from an empty pipe sleeps while it holds the file system, which every user may have it do. It was seen to keep
a volume still for as long as it liked: neither the deadline nor a signal reached who waits in the kernel.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from borg_lvm.watchdog import client
from tests.rig import Rig
from tests.system.support.attacks.attacker import NOBODY
from tests.system.support.attacks.started import unanswered
from tests.system.support.runs.live import Run, assert_nothing_left, is_writable, tidy, wait_for
from tests.system.support.runs.program import run

pytestmark = pytest.mark.limit(300)
ROWS = [
    pytest.param("ext4", None, id="ext4", marks=pytest.mark.each_series),
    # How the kernel waits for the call is no matter of the file system.
    pytest.param("xfs", None, id="xfs"),
    pytest.param("ext4", 1, id="luks", marks=pytest.mark.each_series),
    # Frozen by us, and the file's device number is not that of the mount point, but of its subvolume.
    pytest.param("btrfs", None, id="btrfs"),
]
HOLDER = Path(__file__).parent / "support/attacks/holding.py"
WOKEN = ["stopped", "hidden", "layer", "registered", "lease"]
HOLDS = ["ring", pytest.param("other", marks=pytest.mark.soak), "folder", "traced", *WOKEN]
SPLICER = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
r, w = os.pipe()
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
print("ready", flush=True)
os.splice(r, fd, 4096)
"""


@contextmanager
def splicing(file: Path) -> Iterator[None]:
    """Have an unprivileged process hold a file system in the block."""
    with subprocess.Popen([sys.executable, "-c", SPLICER, file], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize(("fs", "luks"), ROWS)
def test_a_call_that_sleeps_is_woken(rig: Rig, fs: str, luks: int | None) -> None:
    with tidy():
        volume = rig.volume("data", fs=fs, luks_version=luks, at=rig.path("data"))
        assert volume.at
        if fs == "btrfs":
            run("btrfs", "subvolume", "create", volume.at / "home")
        else:
            (volume.at / "home").mkdir()
        os.chown(volume.at / "home", 65534, 65534)
        rig.directory.chmod(0o755)
        rig.path("config.yaml").write_text("deadline: 30\n")
        with splicing(volume.at / "home" / "file"):
            running = Run("run", "--config", rig.path("config.yaml"), "--path", volume.at, "--", "true")
            running.step("thawed")
            assert is_writable(volume, seconds=5)
            assert "all snapshots removed" in running.end(0).err
        assert_nothing_left(rig)


@pytest.mark.usefixtures("fuse")
@pytest.mark.parametrize(
    ("fs", "how"), [("ext4", "here"), pytest.param("btrfs", "here", marks=pytest.mark.soak), ("btrfs", "above")]
)
def test_who_cannot_be_examined_does_not_keep_others_from_being_woken(rig: Rig, fs: str, how: str) -> None:
    """The watchdog was seen to wait for the attributes of a stranger's file until the deadline."""
    with tidy():
        volume = rig.volume("data", fs=fs, at=rig.path("data"))
        assert volume.at
        (volume.at / "home").mkdir()
        os.chown(volume.at / "home", NOBODY, NOBODY)
        rig.directory.chmod(0o755)
        rig.path("config.yaml").write_text("deadline: 30\nattempts: 1\n")
        gate = rig.path("gate")
        run("dmesg", "--clear")
        (volume.at / "below").touch()
        os.chown(volume.at / "below", NOBODY, NOBODY)
        rig.path("place").mkdir()
        paths = [rig.path("place"), volume.at] if how == "above" else []
        with unanswered(gate, how, *paths), splicing(volume.at / "home" / "file"):
            gate.touch()
            running = Run("run", "--config", rig.path("config.yaml"), "--path", volume.at, "--", "true")
            assert "all snapshots removed" in running.end(0).err
            assert "aborted" not in run("dmesg").out  # which the deadline brings, for one such file after the other
        if how == "above":
            run("umount", rig.path("place"))
        assert_nothing_left(rig)


TRIES = 3


@contextmanager
def held(how: str, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have a user hold a file system in the block, such that no signal of ours makes them let go."""
    argv = ["/usr/bin/python3", "-I", str(HOLDER), how, str(file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True, cwd="/") as process:
        try:
            assert process.stdout
            assert [process.stdout.readline(), process.stdout.readline()] == [b"ready\n", b"holds\n"]
            time.sleep(1)
            assert process.poll() is None
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.usefixtures("fuse")
@pytest.mark.parametrize("how", HOLDS)
def test_who_holds_it_is_made_to_let_go_at_the_deadline(rig: Rig, how: str) -> None:
    """However they hold it: each was seen to keep all writers waiting for as long as it liked."""
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        assert volume.at
        (volume.at / "home").mkdir()
        os.chown(volume.at / "home", NOBODY, NOBODY)
        rig.directory.chmod(0o755)
        rig.path("config.yaml").write_text("deadline: 3\nattempts: 1\n")
        done = {**dict.fromkeys(WOKEN, ""), "traced": "killed process"}
        wanted = done.get(how, f"aborted FUSE connection .* of user {NOBODY}")
        run("dmesg", "--clear")
        for _ in range(TRIES):
            with held(how, volume.at / "home" / "file"):
                running = Run("run", "--config", rig.path("config.yaml"), "--path", volume.at, "--", "true")
                wait_for(lambda: running.process.poll() is not None, "the end of the run", seconds=40)  # noqa: B023
                assert is_writable(volume, seconds=5)
                said = running.end(None)
            if not wanted or re.search(f"borg-lvm: .*: {wanted}", run("dmesg").out):
                break
            # A worker of an io_uring comes to its write when it has a processor, and may be woken before the deadline.
            assert said.status == 0, said
        assert said.status in (0, 71), said
        assert_nothing_left(rig)


def test_who_is_traced_and_gets_on_is_left_alone(rig: Rig) -> None:
    """A server at which somebody looks by strace(1) was killed when another user held the volume past the deadline."""
    with tidy():
        volume = rig.volume("data", fs="ext4", at=rig.path("data"))
        assert volume.at
        (volume.at / "home").mkdir()
        os.chown(volume.at / "home", NOBODY, NOBODY)
        rig.directory.chmod(0o755)
        path = f"import sys; sys.path.append({str(Path(client.PROGRAM).parent)!r})"
        insist = f"{path}; import loosen; loosen.insist([{volume.at.stat().st_dev}])"
        with held("watched", volume.at / "home" / "file") as process:
            for _ in range(5):
                run(sys.executable, "-c", insist)
            assert process.poll() is None
        assert_nothing_left(rig)
