"""What else goes on on a machine, and how it starts us, must not make a bad backup look good."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.runs.program import BIN, OURS, borg_lvm, environment, run, start

pytestmark = pytest.mark.limit(600)
ON_THE_HOST = "nsenter --target 1 --mount sh -c"


@pytest.fixture
def srv(rig: Rig) -> Iterator[Path]:
    rig.volume("srv", fs="ext4", at="/srv/hostile")
    top = Path("/srv/hostile")
    (top / "app").mkdir()
    (top / "app" / "file").write_text("old\n")
    yield top
    assert rig.leftovers() == []


def test_a_source_that_is_replaced_meanwhile_fails_the_run(srv: Path) -> None:
    replace = f"mv {srv}/app {srv}/gone; mkdir {srv}/app; echo new >{srv}/app/file"
    said = borg_lvm("run", "--path", srv / "app", "--", "sh", "-c", f"{ON_THE_HOST} '{replace}'; true", status=74)
    assert f"{srv}/app was replaced or moved" in said.err
    replace = f"echo newer >{srv}/app/other; mv {srv}/app/other {srv}/app/file"
    said = borg_lvm("run", "--path", srv / "app/file", "--", "sh", "-c", f"{ON_THE_HOST} '{replace}'; true", status=74)
    assert f"{srv}/app/file was replaced or moved" in said.err
    # The same below a source is what snapshots are for.
    replace = f"echo newest >{srv}/app/other; mv {srv}/app/other {srv}/app/file"
    said = borg_lvm("run", "--path", srv, "--", "sh", "-c", f"{ON_THE_HOST} '{replace}'; cat {srv}/app/file")
    assert said.out == "newer\n"
    assert (srv / "app" / "file").read_text() == "newest\n"


@pytest.mark.each_kernel
def test_an_overflowed_snapshot_fails_the_run_though_the_command_succeeds(srv: Path) -> None:
    fill = f"dd if=/dev/zero of={srv}/big bs=1M count=20 conv=fsync 2>/dev/null"
    command = f'{ON_THE_HOST} "{fill}"; true'
    said = borg_lvm("run", "--path", srv, "--snapshot-size", "4M", "--", "sh", "-c", command, status=74)
    assert "was lost" in said.err
    assert "snapshot: {volumes: [{volume: " in said.err


def test_a_source_that_does_not_exist_may_be_skipped_and_must_not_appear(srv: Path, rig: Rig) -> None:
    config, later = rig.path("skip.yaml"), rig.path("later")
    config.write_text("missing_sources: skip\n")
    command = ("run", "--config", config, "--path", srv, "--path", later, "--", "sh", "-c")
    assert f"{later}" in borg_lvm(*command[:1], *command[3:], "true", status=69).err
    said = borg_lvm(*command, f"ls {srv}")
    assert f"{later} does not exist: nothing of it will be in the backup" in said.err
    said = borg_lvm(*command, f"touch {later}", status=74)
    assert f"{later} did not exist when the run began, and appeared meanwhile" in said.err


@pytest.mark.soak
def test_a_file_system_mounted_while_we_wait_is_not_forgotten(srv: Path, rig: Rig) -> None:
    (srv / "sub").mkdir()
    other = rig.volume("sub", fs="ext4")
    first = start([BIN / "borg-lvm", "run", "--path", srv, "--", "sh", "-c", "echo runs; exec sleep 30"])
    assert first.stdout is not None
    assert first.stdout.readline() == b"runs\n"
    second = start([BIN / "borg-lvm", "run", "--lock-wait", "200", "--path", srv, "--", "ls", srv / "sub"])
    wait_until_it_waits(second.pid)
    run("mount", other.device, srv / "sub")
    try:
        out, err = second.communicate(timeout=200)
        assert second.returncode == 71, err
        assert f"{srv}/sub" in os.fsdecode(err)
        assert out == b""
    finally:
        first.communicate(timeout=200)
        run("umount", srv / "sub")
    assert first.returncode == 0


def wait_until_it_waits(pid: int) -> None:
    """Wait until the process has a lock file open: then its survey is behind it."""
    end = time.monotonic() + 100
    while time.monotonic() < end:
        files = {os.path.realpath(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
        if any("/run/borg-lvm/locks/" in name for name in files):
            return
        time.sleep(0.1)
    raise AssertionError("the second run never came to its lock")


def test_a_parent_that_ignores_its_children_does_not_make_failures_successes(srv: Path) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    shown = "import signal, sys; print(signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN); sys.exit(3)"
    python = BIN / "python"
    ours = (python, BIN / "borg-lvm")  # a shell between, where the path has blanks, would handle SIGCHLD itself
    said = run(python, "-c", ignoring, *ours, "run", "--path", srv, "--", python, "-c", shown, status=3)
    assert "all snapshots removed" in said.err
    assert said.out == "True\n", "the command no longer finds SIGCHLD ignored, as it was for us"


@pytest.mark.parametrize("where", ["closed", pytest.param("full", marks=pytest.mark.soak)])
def test_a_standard_error_that_cannot_be_written(srv: Path, where: str) -> None:
    redirected = "2>&-" if where == "closed" else "2>/dev/full"
    command = f"{OURS} run --path {srv} -- sh -c 'cat {srv}/app/file; exit 5' {redirected}"
    done = subprocess.run(["sh", "-c", command], env=environment(), capture_output=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (5, b"old\n")


@pytest.mark.soak
def test_a_run_in_another_pid_namespace_is_alive(srv: Path) -> None:
    command = f"echo runs; sleep 20; cat {srv}/app/file"
    ours: list[str | Path] = [BIN / "borg-lvm", "run", "--path", srv, "--", "sh", "-c", command]
    other = start(["unshare", "--pid", "--fork", "--mount-proc", *ours])
    assert other.stdout is not None
    assert other.stdout.readline() == b"runs\n"
    assert "nothing to clean" in borg_lvm("clean").err
    out, err = other.communicate(timeout=200)
    assert (other.returncode, out) == (0, b"old\n"), err
