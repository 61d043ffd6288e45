"""LVM sees what it would have made itself: names, ids, tables, attributes; during a run, and after it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.rig import Kind, Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import Gate, Programs, Run, assert_nothing_left, end_dmeventd, tidy
from tests.system.support.runs.program import borg_lvm, run
from tests.system.support.writers.tables import assert_same, tables

pytestmark = pytest.mark.limit(600)
SEEN = "lv_name,lv_attr,origin,lv_layout,lv_role,lv_size,lv_kernel_minor,chunk_size"
IN_USE = 'global{cache_check_executable=""}'
KINDS: tuple[Kind, ...] = ("thick", "striped", "thin", "raid1", "cachepool")


def seen(volume: Volume) -> list[str]:
    """What LVM tells of the volumes of a group, but whether they are open."""
    rows = run("lvs", "-a", "--noheadings", "--separator", "|", "-o", SEEN, volume.group.name).out.splitlines()
    return sorted(re.sub(r"^([^|]+\|.{5}).", r"\1-", row.strip()) for row in rows)


def running(rig: Rig, *paths: Path) -> tuple[Run, Gate]:
    """Start a run and wait for its command."""
    gate = Gate(rig.directory, f"command-{len(os.listdir(rig.directory))}")
    words = [word for path in paths for word in ("--path", str(path))]
    live = Run("run", "--snapshot-size", "16M", *words, "--", "sh", "-c", f"{gate.shell}; cat {paths[0]}/file")
    gate.reached(process=live.process)
    return live, gate


def snapshot_of(volume: Volume) -> str:
    (name,) = run("lvs", "--noheadings", "-o", "lv_name", "@borg_lvm").out.split()
    return name


def made_by_lvm(volume: Volume, name: str, *, thin: bool) -> None:
    minor = run("lvs", "--noheadings", "-o", "lv_kernel_minor", f"{volume.group.name}/{name}").out.strip()
    run("lvremove", "-q", "-y", "--config", IN_USE, f"{volume.group.name}/{name}")
    argv = ["lvcreate", "-q", "-y", "-s", "-n", name, "-My", "--minor", minor, "--config", IN_USE, "-an"]
    run(*argv[:-1], *(["-ay", "-K", "-ky"] if thin else ["-L", "16m"]), volume.full_name)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.soak) if kind == "striped" else kind for kind in KINDS]
)
@pytest.mark.some_kernel
def test_a_run_makes_what_lvm_makes(rig: Rig, kind: Kind) -> None:
    """The same snapshot by `lvcreate`; a refresh changes nothing; LVM extends it; nothing is left but what was."""
    with tidy():
        volume = rig.volume("data", kind=kind, fs="ext4", mib=48, at=rig.path("data"))
        assert volume.at
        (volume.at / "file").write_text("old")
        before = tables()
        live, gate = running(rig, volume.at)
        ours, name = tables(), snapshot_of(volume)
        told = seen(volume)
        run("lvchange", "--refresh", "--config", IN_USE, volume.full_name)
        assert_same(ours, tables())
        run("vgck", volume.group.name)
        if kind != "thin":
            run("lvextend", "-q", "-L", "+4m", "--config", IN_USE, f"{volume.group.name}/{name}")
        (volume.at / "file").write_text("new")
        gate.open()
        assert live.end().out == "old"
        assert_same(before, tables())

        # The same by LVM alone, under the same name.
        live, gate = running(rig, volume.at)
        name = snapshot_of(volume)
        ours, told = tables(), seen(volume)
        live.kill()
        gate.open()
        live.end(None)
        made_by_lvm(volume, name, thin=kind == "thin")
        assert_same(ours, tables())
        assert seen(volume) == told
        run("lvremove", "-q", "-y", "--config", IN_USE, f"{volume.group.name}/{name}")
        borg_lvm("clean")

        # As after a reboot.
        run("umount", volume.at)
        end_dmeventd()
        run("vgchange", "-q", "-an", volume.group.name)
        run("vgchange", "-q", "-ay", volume.group.name)
        run("mount", volume.top, volume.at)
        assert_same(before, tables())
        assert_nothing_left(rig)


@pytest.mark.parametrize("kind", ["thick", "thin", pytest.param("raid1", marks=pytest.mark.soak)])
@pytest.mark.some_kernel
def test_a_volume_that_has_a_snapshot_of_somebody_elses(rig: Rig, kind: Kind) -> None:
    with tidy():
        volume = rig.volume("data", kind=kind, fs="ext4", mib=48, at=rig.path("data"))
        assert volume.at
        (volume.at / "file").write_text("first")
        os.sync()
        run("lvcreate", "-q", "-y", "-s", "-n", "theirs", "-L", "12m", volume.full_name)
        (volume.at / "file").write_text("second")
        before = tables()
        live, gate = running(rig, volume.at)
        ours = tables()
        run("lvchange", "--refresh", volume.full_name)
        assert_same(ours, tables())
        (volume.at / "file").write_text("third")
        os.sync()
        gate.open()
        assert live.end().out == "second"
        assert_same(before, tables())
        rig.path("theirs").mkdir()
        run("mount", "-o", "ro", f"{volume.device.removesuffix('data')}theirs", rig.path("theirs"))
        assert (rig.path("theirs") / "file").read_text() == "first"
        run("umount", rig.path("theirs"))
        run("lvremove", "-q", "-y", f"{volume.group.name}/theirs")
        assert_nothing_left(rig)


def test_another_command_of_lvms_before_the_window(rig: Rig) -> None:
    """It refreshes the volume when LVM has written the snapshot down: that is there before its time."""
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=48, at=rig.path("data"))
        before = tables()
        programs = Programs(rig.path("programs"))
        gate = programs.stop_shell("before", r"lvmconfig\ *")
        rig.path("config.yaml").write_text("retry_pause: 1\n")
        words: list[str | Path] = ["--config", rig.path("config.yaml"), "--path", str(volume.at)]
        live = Run("run", *words, "--", "true", programs=programs)
        gate.reached(process=live.process)
        run("lvchange", "--refresh", volume.full_name)
        gate.open()
        assert "another command has changed" in live.end(0).err  # and a second attempt goes well
        assert_same(before, tables())
        assert_nothing_left(rig)
