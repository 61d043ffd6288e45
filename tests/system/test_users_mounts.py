"""File systems of users below a source, as sshfs and gvfs make them: root may not read them; no backup is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.attacks.pinning import NOBODY, mount, serve
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm, run

pytestmark = [pytest.mark.limit(280), pytest.mark.usefixtures("fuse")]


@contextmanager
def users(point: Path, options: str = "", *, served: bool = True) -> Iterator[None]:
    """Have a user's FUSE file system mounted, as fusermount does it; without a server it is as after its death."""
    fuse = os.open("/dev/fuse", os.O_RDWR)
    mount("nas", str(point), "fuse.sshfs", 0, f"fd={fuse},rootmode=40000,user_id={NOBODY},group_id={NOBODY}{options}")
    pid = os.fork() if served else 0
    if served and pid == 0:
        serve(fuse)
    os.close(fuse)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture
def home(rig: Rig) -> Iterator[Path]:
    rig.volume("data", fs="ext4", at=rig.path("data"))
    home = rig.path("data") / "home"
    (home / "nas").mkdir(parents=True)
    (home / "file").write_text("frozen")
    with tidy():
        yield home
        assert_nothing_left(rig)


@pytest.mark.each_value
@pytest.mark.parametrize("declared", [False, True], ids=["nothing is declared", "declared"])
@pytest.mark.parametrize("served", [True, False], ids=["served", "its server is gone"])
def test_it_stops_no_backup(home: Path, served: bool, declared: bool) -> None:
    live: list[str | Path] = ["--live", home / "nas"] if declared else []
    with users(home / "nas", served=served):
        assert run("ls", home / "nas", status=None).status  # what this test is about
        said = borg_lvm("run", *live, "--path", home, "--", "sh", "-c", f"cat {home}/file; ls -A {home}/nas")
    assert said.out == "frozen"
    assert ("not even root may read it" in said.err) == (not declared)
    assert "all snapshots removed" in said.err


def test_what_root_may_read_is_refused_and_can_be_declared(home: Path) -> None:
    """Also where it does not answer any more."""
    for served in (True, False):
        with users(home / "nas", ",allow_other", served=served):
            said = borg_lvm("run", "--path", home, "--", "true", status=69)
            assert f"--live {home / 'nas'}" in said.err
            borg_lvm("run", "--live", home / "nas", "--path", home, "--", "cat", home / "file")
