"""`borg-lvm check` on real LVM: what it says of it, and that it changes nothing."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig
from tests.rig.tools import run as tool
from tests.system.support.runs.program import BIN, borg_lvm, run, start
from tests.system.test_applications import Stage, installed

pytestmark = pytest.mark.limit(180)


def check(*argv: str | Path, status: int = 0, before: tuple[str | Path, ...] = ()) -> dict[str, Any]:
    """Run `borg-lvm check --json`; nothing may be left of it, nor be changed."""
    seen = tool("lvs", "-a", "-o", "+tags,time")
    said = run(*before, BIN / "borg-lvm", "check", "--json", *argv, status=status)
    assert tool("lvs", "-a", "-o", "+tags,time") == seen
    found: dict[str, Any] = json.loads(said.out)
    assert found["works"] is (status == 0)
    return found


def told(found: dict[str, Any], *levels: str) -> str:
    """Return what was found of these levels, with the remedies."""
    return "\n".join(
        f"{one['about']}: {' '.join([one['message'], *one['details']])} -> {one['remedy']}"
        for one in found["findings"]
        if one["level"] in levels
    )


def grown(rig: Rig, name: str = "data") -> Path:
    volume = rig.volume(name, fs="ext4", mib=64, at=rig.path(name))
    assert volume.at
    return volume.at


def test_a_good_machine_and_what_is_missing(rig: Rig) -> None:
    data = grown(rig)
    before = rig.leftovers()
    found = check("--", "tar", "-cf", "/tmp/a.tar", data)
    assert told(found, "warning", "error") == ""
    assert "at one instant" in found["conclusion"]
    assert found["plan"]["sources"] == [str(data)]
    said = borg_lvm("check", "--path", data)
    assert said.out.splitlines()[-1].startswith("The backup would work: every file of its sources on ")
    assert len(said.out.splitlines()) <= 24  # one screen
    assert rig.leftovers() == before
    found = check("--", "tar", "-cf", "/tmp/a.tar", data, "/proc", status=69)
    assert "/proc" in told(found, "error")
    assert "command not found" in told(check("--", "no-such-program", status=69), "error")
    config = rig.path("config.yaml")
    config.write_text("paths: [/proc]\n")
    assert "/proc" in told(check("--config", config, status=69), "error")
    config.chmod(0o666)
    found = check("--config", config, status=69)
    assert "configuration" in told(found, "error")
    assert "chmod" in told(found, "error")


def test_inside_of_a_run_there_is_nothing_to_look_at(rig: Rig) -> None:
    data = grown(rig)
    words = (BIN / "borg-lvm", "check", "--json", "--", "tar", "-cf", "/tmp/a.tar", data)
    said = borg_lvm("run", "--path", data, "--", *words)
    assert json.loads(said.out)["works"] is True
    assert "inside of the run" in json.loads(said.out)["conclusion"]


@pytest.mark.soak
def test_a_group_without_free_space(rig: Rig) -> None:
    group = rig.group(mib=64)
    full = rig.volume("full", fs="ext4", mib=32, at=rig.path("full"), group=group)
    assert full.at
    assert told(check(), "warning") == ""
    tool("lvcreate", "--yes", "--extents", "100%FREE", "--name", "rest", group.name)
    try:
        assert f"vgextend {group.name}" in told(check(), "warning")
        found = check("--path", full.at, "--", "true", status=69)
        assert "0 B free" in told(found, "error")
    finally:
        tool("lvremove", "--yes", f"{group.name}/rest")


@pytest.mark.soak
def test_leftovers_and_kept_snapshots(rig: Rig) -> None:
    data = grown(rig)
    began = rig.path("began")
    with start([BIN / "borg-lvm", "run", "--path", data, "--", "sh", "-c", f"touch {began}; sleep 60"]) as running:
        while not began.exists():
            assert running.poll() is None
            time.sleep(0.1)
        assert "leftovers" not in told(check("--path", data, "--", "true"), "warning", "error")
        running.send_signal(signal.SIGKILL)
        running.wait()
    try:
        found = check("--path", data, "--", "true")
        assert "borg-lvm clean" in told(found, "warning")
    finally:
        borg_lvm("clean")
    assert told(check("--path", data, "--", "true"), "warning") == ""
    borg_lvm("run", "--keep", "--path", data, "--", "true")
    found = check("--path", data, "--", "true")
    remedy = next(one["remedy"] for one in found["findings"] if one["about"] == "leftovers")
    run(*remedy.split())
    assert "leftovers" not in told(check("--path", data, "--", "true"), "warning", "note")
    assert rig.leftovers() == []


@pytest.mark.soak
def test_a_size_that_history_says_is_too_small(rig: Rig) -> None:
    data = grown(rig)
    script = f"dd if=/dev/urandom of=/proc/$PPID/root{data}/new bs=1M count=12 conv=fsync && sleep 3"
    # The history knows what was seen while the command ran, and a look comes every second.
    borg_lvm("run", "--snapshot-size", "40M", "--path", data, "--", "sh", "-c", script)
    config = rig.path("config.yaml")
    config.write_text("snapshot: {grow: false}\n")
    found = check("--config", config, "--snapshot-size", "4M", "--path", data, "--", "true")
    assert "too small" in told(found, "warning"), found["findings"]
    assert "too small" not in told(check("--config", config, "--path", data, "--", "true"), "warning")


SANDBOXES = {
    "no CAP_SYS_ADMIN": (["setpriv", "--bounding-set", "-sys_admin"], "CAP_SYS_ADMIN is missing"),
    "PrivateDevices": (
        ["unshare", "-m", "sh", "-c", 'mount -t tmpfs x /dev/mapper && exec setpriv --bounding-set -mknod "$@"', "sh"],
        "PrivateDevices=no",
    ),
    "ProtectSystem": (
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            'mkdir -p /run/borg-lvm && mount -t tmpfs -o ro,mode=0700 x /run/borg-lvm && exec "$@"',
            "sh",
        ],
        "ReadWritePaths=/run/borg-lvm",
    ),
}


def test_state_that_others_could_write(rig: Rig) -> None:
    grown(rig)
    open_to_all = 'mkdir -p /run/borg-lvm && mount -t tmpfs x /run/borg-lvm && exec "$@"'
    said = check(status=69, before=("unshare", "-m", "sh", "-c", open_to_all, "sh"))
    assert "/run/borg-lvm can be written by everybody" in told(said, "error")


@pytest.mark.parametrize("name", SANDBOXES)
def test_a_sandbox_that_takes_lvm_away(rig: Rig, name: str) -> None:
    grown(rig)
    before, words = SANDBOXES[name]
    assert words in told(check(status=69, before=tuple(before)), "error")


def test_an_application_is_made_once_and_let_go(rig: Rig) -> None:
    stage = Stage(rig, [])
    stage.entries.append({"plugin": "faulty", "options": {}})
    env = installed(rig, stage)
    said = borg_lvm("check", *stage.config(), "--", "true", env=env)
    assert "faulty" in said.out
    assert (stage.directory / "phases").read_text().split() == ["make", "probe", "close"]
    stage.entries[0]["options"] = {"phase": "make"}
    said = borg_lvm("check", *stage.config(), "--", "true", env=env, status=69)
    assert "no luck" in said.out
