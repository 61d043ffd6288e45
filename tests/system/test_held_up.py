"""Somebody is in the middle of writing to a file system, and does not end: the freeze waits, and all writers for it.

splice(2) from an empty pipe sleeps while it holds the file system, which every user may have it do. It was seen to keep
a volume still for as long as it liked: neither the deadline nor a signal reached who waits in the kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.runs.live import Run, assert_nothing_left, is_writable, tidy
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
