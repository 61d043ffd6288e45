"""What others do to a volume between LVM's writing a snapshot down and the window: seen, or of no harm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.rig import Kind, Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import Programs, Run, assert_nothing_left, tidy
from tests.system.support.runs.program import run
from tests.system.support.writers.tables import assert_same, tables

pytestmark = pytest.mark.limit(300)
DIRECTORY = Path("/run/borg-lvm-test-changed")  # where only root can write
ARMED = 5  # calls that change something in device-mapper until a RAID's snapshot is armed


def data(rig: Rig, kind: Kind = "thick") -> Volume:
    volume = rig.volume("data", kind=kind, fs="ext4", mib=48, at=rig.path("data"))
    assert volume.at
    (volume.at / "file").write_text("right")
    os.sync()
    return volume


def configured(volume: Volume, command: str = "") -> list[str]:
    """Return the words of a run whose application is quiesced by a command of the shell's."""
    DIRECTORY.mkdir(exist_ok=True)
    script = DIRECTORY / "quiesce"
    script.write_text(f"#!/bin/sh\n[ $1 = quiesce ] || exit 0\n{command}\n")
    script.chmod(0o755)
    options = {phase: [str(script), phase] for phase in ("quiesce", "resume")}
    entry = {"plugin": "scripts", "name": "app", "options": options}
    settings = {"attempts": 1, "applications": [entry] if command else []}
    (DIRECTORY / "config.yaml").write_text(yaml.safe_dump(settings))
    return [
        "run",
        "--config",
        str(DIRECTORY / "config.yaml"),
        "--path",
        str(volume.at),
        "--",
        "cat",
        f"{volume.at}/file",
    ]


def test_a_name_that_is_given_to_another_volume(rig: Rig) -> None:
    with tidy():
        volume, other = data(rig, "thin"), rig.volume("other", kind="thin", fs="ext4", mib=48)
        programs = Programs(rig.path("programs"))
        gate = programs.stop_shell("before", r"lvcreate\ *")
        live = Run(*configured(volume), programs=programs)
        gate.reached(process=live.process)
        group = volume.group.name
        for old, new in (("data", "old"), ("other", "data")):
            run("lvrename", "-q", group, old, new)
        gate.open()
        assert "LVM did not make the snapshot of" in live.end(71).err
        for old, new in (("data", "other"), ("old", "data")):
            run("lvrename", "-q", group, old, new)
        assert other.name == "other"
        assert_nothing_left(rig)


@pytest.mark.parametrize("kind", ["thick", "thin"])
def test_a_snapshot_that_somebody_removes_before_the_window(rig: Rig, kind: Kind) -> None:
    """While applications are quiesced LVM's lock is free."""
    with tidy():
        volume = data(rig, kind)
        before = tables()
        said = Run(*configured(volume, "lvremove -q -y -f @borg_lvm >/dev/null 2>&1 || :")).end(71)
        assert "another command has changed" in said.err
        assert_same(before, tables())
        assert_nothing_left(rig)


def test_lvm_may_be_used_while_applications_are_quiesced(rig: Rig) -> None:
    with tidy():
        volume = data(rig)
        use = f"lvs >/dev/null && lvcreate -q -y -n theirs -L 4m {volume.group.name} >/dev/null 2>&1"
        said = Run(*configured(volume, use)).end(0)
        assert said.out == "right"
        run("lvremove", "-q", "-y", f"{volume.group.name}/theirs")
        assert_nothing_left(rig)


@pytest.mark.parametrize("kind", ["thick", "thin"])
def test_what_somebody_else_has_suspended_is_refused(rig: Rig, kind: Kind) -> None:
    with tidy():
        volume = data(rig, kind)
        programs = Programs(rig.path("programs"))
        gate = programs.stop_shell("before", r"lvmconfig\ *")
        live = Run(*configured(volume), programs=programs)
        gate.reached(process=live.process)
        run("dmsetup", "suspend", volume.device)
        gate.open()
        said = live.end(71)
        run("dmsetup", "resume", volume.device)
        assert "somebody else has suspended it" in said.err
        assert_nothing_left(rig)


def test_a_volume_that_nobody_may_write_to_stays_so(rig: Rig) -> None:
    with tidy():
        volume = data(rig)
        run("umount", volume.at or "")
        run("lvchange", "-q", "-pr", volume.full_name)
        run("mount", "-o", "ro", volume.top, volume.at or "")
        words = configured(volume)
        said = Run(*words[:-2], "blockdev", "--getro", volume.device).end(0)
        assert said.out.strip() == "1"
        assert run("blockdev", "--getro", volume.device).out.strip() == "1"
        run("umount", volume.at or "")
        run("lvchange", "-q", "-prw", volume.full_name)
        run("mount", volume.top, volume.at or "")
        assert_nothing_left(rig)


def failing(volume: Volume, then: Callable[[], None]) -> None:
    """Take a disk of a RAID away for a moment, in which something is done."""
    leg = f"{volume.group.name}-data_rimage_0"
    table = run("dmsetup", "table", leg).out.strip()
    sectors = table.split()[1]
    for new in (f"0 {sectors} error", table):
        run("dmsetup", "load", leg, "--table", new)
        run("dmsetup", "resume", leg)
        if new != table:
            then()


def test_a_disk_that_fails_before_the_window_is_not_trusted_again(rig: Rig) -> None:
    """What was written meanwhile is on the other one alone: it must be the one that is read afterwards."""
    with tidy():
        volume = data(rig, "raid1")
        assert volume.at
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window("after", "change", ARMED)
        live = Run(*configured(volume), programs=programs)
        gate.reached(process=live.process)
        file = volume.at / "written"

        def write() -> None:
            run("dd", "if=/dev/urandom", f"of={file}", "bs=1M", "count=1", "conv=fsync", "status=none")

        failing(volume, write)
        content = file.read_bytes()
        gate.open()
        live.end(None)
        for _ in range(4):
            Path("/proc/sys/vm/drop_caches").write_text("3")
            assert file.read_bytes() == content
        run("lvchange", "-q", "--refresh", volume.full_name)
        assert_nothing_left(rig)


@pytest.mark.parametrize("kind", ["thick", "thin"])
def test_a_volume_that_somebody_resumes_in_the_window_is_tried_again(rig: Rig, kind: Kind) -> None:
    """As `vgchange --activate y --sysinit` in a loop does, which takes no lock."""
    with tidy():
        volume = data(rig, kind)
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window("after", "suspend")
        settings = rig.path("config.yaml")
        settings.write_text("attempts: 2\nretry_pause: 0\n")
        words = ["run", "--config", str(settings), "--path", str(volume.at), "--", "cat", f"{volume.at}/file"]
        live = Run(*words, programs=programs)
        gate.reached(process=live.process)
        run("dmsetup", "resume", volume.device)
        gate.open()
        said = live.end(0)
        assert f"somebody resumed {volume.full_name}" in said.err
        assert "attempt 2 of 2" in said.err
        assert said.out == "right"
        assert_nothing_left(rig)
