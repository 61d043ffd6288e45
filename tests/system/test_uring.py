"""A program that writes by io_uring to one volume and waits for another: which of them is held still last matters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import AHEAD, BIN, borg_lvm, run
from tests.system.support.writers import ringing

pytestmark = pytest.mark.limit(600)
RUNS = 3 if "BORG_LVM_RUNS" in os.environ else 1
TRIES = 10


@contextmanager
def ringing_between(data: Volume, log: Volume) -> Iterator[int]:
    """Have the program write for the length of the block, in which it must not end; gives its pid."""
    assert data.at
    assert log.at
    argv = [
        "nice",
        "-n",
        str(AHEAD),
        sys.executable,
        str(Path(ringing.__file__)),
        str(data.at / "pages"),
        str(log.at / "journal"),
    ]
    try:
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == b"going\n"
                yield process.pid
                assert process.poll() is None
            finally:
                process.kill()
    finally:
        for volume in (data, log):
            wait_until_free(volume)


def wait_until_free(volume: Volume) -> None:
    """Wait until nobody uses a file system: the kernel lets go of an io_uring's files after its process has ended."""
    at = volume.at
    assert at
    wait_for(lambda: run("umount", at, status=None).status == 0, f"{at} to be free")
    run("mount", volume.top, at)


def test_the_log_is_held_still_last(rig: Rig) -> None:
    one = rig.volume("one", fs="ext4", mib=48, at=rig.path("one"))
    two = rig.volume("two", fs="xfs", mib=64, at=rig.path("two"))
    rig.path("config.yaml").write_text("deadline: 5\nattempts: 1\n")
    paths = [word for volume in (one, two) for word in ("--path", str(volume.at))]
    argv = ["run", "--config", str(rig.path("config.yaml")), *paths, "--", "true"]
    with tidy(), ringing_between(data=one, log=two):  # where no log is known they are held in their order
        for _ in range(RUNS):
            borg_lvm(*argv)
    if "6.12" in os.uname().release:
        return  # it was never seen to wait: there the writes had ended
    with tidy(), ringing_between(data=two, log=one) as pid:
        tried = (run(BIN / "borg-lvm", *argv, status=None) for _ in range(TRIES))
        said = next(said for said in tried if said.status == 71)  # sometimes all that was begun has ended just then
        assert "the window took longer than 5 s" in said.err
        assert f"({pid}) has an io_uring, and files open for writing on these volumes" in said.err
        assert "innodb_use_native_aio=OFF" in said.err
    assert_nothing_left(rig)
