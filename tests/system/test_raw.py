"""Volumes that are themselves the source: no file system of ours is on them, a program writes to the device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import OURS, borg_lvm, run
from tests.system.support.writers.writers import ROOM, Writer, gap, writing

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine
RUNS = int(os.environ.get("BORG_LVM_RUNS", "2"))


def test_the_command_reads_the_device_as_it_was(rig: Rig) -> None:
    disk = rig.volume("disk", mib=16)
    other = rig.volume("other", fs="ext4", at=rig.path("other"))
    assert other.at
    Path(disk.device).write_bytes(b"before")
    live = f"/proc/1/root{os.path.realpath(disk.device)}"  # as the machine sees it, outside of the view
    script = f"printf 'after ' | dd of={live} conv=fsync,notrunc status=none; head -c6 {disk.device}"
    with tidy():
        said = borg_lvm("run", "--path", disk.device, "--path", other.at, "--", "sh", "-ec", script)
        assert said.out == "before", said
        assert run("head", "-c6", disk.device).out == "after "
        assert_nothing_left(rig)


def test_a_name_that_leads_elsewhere_meanwhile_fails_the_run(rig: Rig) -> None:
    disk = rig.volume("disk", mib=16)
    group = disk.group.name
    change = f"lvrename -q {group} disk old && lvcreate -q -y -L 8m -n disk {group}"
    with tidy():
        script = f"nsenter --target 1 --mount sh -ec '{change}'"
        said = borg_lvm("run", "--path", f"/dev/{group}/disk", "--", "sh", "-ec", script, status=74)
        assert f"{disk.full_name}" in said.err
        assert "was replaced or moved" in said.err
        run("lvremove", "-q", "-y", f"{group}/disk")
        run("lvrename", "-q", group, "old", "disk")
        assert_nothing_left(rig)


def test_a_device_that_was_laid_on_the_snapshot_is_named(rig: Rig) -> None:
    """As kpartx does it, for the partitions of a virtual machine: LVM only says that the snapshot is in use."""
    disk = rig.volume("disk", mib=16)
    name = f"{disk.group.name}-part1"
    script = f'dmsetup create {name} --table "0 2048 linear {disk.device} 0"'
    with tidy():
        said = borg_lvm("run", "--path", disk.device, "--", "sh", "-ec", script, status=76)
        assert f"on which the device {name} lies; first: dmsetup remove {name}" in said.err, said
        run("dmsetup", "remove", name)
        borg_lvm("clean")
        assert_nothing_left(rig)


def test_what_the_shell_has_opened_before_is_refused(rig: Rig) -> None:
    device = rig.volume("disk", mib=16).device
    said = run("sh", "-c", f"{OURS} run --path {device} -- head -c3 <{device}", status=64)
    assert "the standard input is the live device" in said.err
    script = f"head -c6 <{device}"
    Path(device).write_bytes(b"before")
    assert borg_lvm("run", "--path", device, "--", "sh", "-c", script).out == "before"
    assert rig.leftovers() == []


@pytest.mark.parametrize("special", ["file", "pipe"])
def test_a_file_is_saved_beside_a_device_and_a_pipe_is_not(rig: Rig, special: str) -> None:
    disk, at = rig.volume("disk", mib=16), rig.volume("files", fs="ext4", at=rig.path("files")).at
    assert at
    borg = Borg.made(rig.path("borg"))
    create = ("borg", "create", "--read-special", borg.archive("a"), at / special, disk.device)
    if special == "pipe":
        os.mkfifo(at / special)
        assert "which stay live" in borg_lvm("plan", "--", *create, status=64, env=borg.env).err
        return
    (at / special).write_text("text")
    borg_lvm("run", "--", *create, env=borg.env)
    assert borg.contents("a")[f"{at}/file".removeprefix("/")] == "text"
    assert rig.leftovers() == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["borg", "create", "{repository}::a", "{device}"], "give it --read-special"),
        (["tar", "-cf", "/dev/null", "{device}"], "saves the name of this device"),
        (["borg", "create", "--read-special", "{repository}::a", "{directory}"], "which stay live"),
    ],
)
def test_a_command_that_would_save_something_else_is_refused(rig: Rig, words: list[str], told: str) -> None:
    places = {"repository": rig.path("r"), "device": rig.volume("disk", mib=16).device, "directory": rig.directory}
    said = borg_lvm("plan", "--", *(word.format(**places) for word in words), status=64)
    assert told in said.err


def test_a_device_in_the_configuration_is_for_a_program_that_nobody_knows(rig: Rig) -> None:
    disk = rig.volume("disk", mib=16)
    Path(disk.device).write_bytes(b"before")
    config = rig.path("config.yaml")
    config.write_text(f"paths: [{disk.device}]\n")
    assert borg_lvm("run", "--config", config, "--", "head", "-c6", disk.device).out == "before"
    assert rig.leftovers() == []


def mixed(rig: Rig) -> tuple[list[Writer], list[Path]]:
    """Return writers to devices and to files, and what is to be frozen: thick and thin, with and without files."""
    volumes = [
        rig.volume("disk", mib=32),
        rig.volume("files", fs="ext4", at=rig.path("files")),
        rig.volume("thindisk", kind="thin", mib=32),
        rig.volume("thinfiles", kind="thin", fs="xfs", at=rig.path("thinfiles")),
        rig.volume("second", kind="thin", mib=32),
    ]
    return [_writer(rig, volume) for volume in volumes], [volume.at or Path(volume.device) for volume in volumes]


def _writer(rig: Rig, volume: Volume) -> Writer:
    target = volume.at / "file" if volume.at else Path(volume.device)
    return Writer("in-place synced", (target,), rig.path(f"{volume.name}.diary"))


def copied(rig: Rig, writers: list[Writer], paths: list[Path], number: int, *options: str) -> list[Path]:
    target = rig.path(f"copies{number}")
    target.mkdir()
    names = [target / writer.diary.name for writer in writers]
    lines = [f"head -c{ROOM} {writer.files[0]} >{name}" for writer, name in zip(writers, names, strict=True)]
    words = [word for path in paths for word in ("--path", path)]
    borg_lvm("run", *options, *words, "--", "sh", "-ec", "\n".join(lines))
    return names


def gaps(rig: Rig, runs: int, *options: str) -> list[float]:
    writers, paths = mixed(rig)
    with writing(writers):
        copies = [copied(rig, writers, paths, number, *options) for number in range(runs)]
    shown = [[writer.shown(copy) for writer, copy in zip(writers, names, strict=True)] for names in copies]
    return [gap(writers, numbers) for numbers in shown]


def test_devices_and_files_show_one_instant(rig: Rig) -> None:
    with tidy():
        found = gaps(rig, RUNS)
        print("gaps, in seconds:", *(f"{one:.3f}" for one in found))
        assert [one for one in found if one > 0] == []
        assert_nothing_left(rig)


@pytest.mark.soak
def test_the_judge_sees_one_device_after_the_other(rig: Rig) -> None:
    with tidy():
        found = gaps(rig, 2, "--consistency", "per-volume")
        print("gaps, in seconds:", *(f"{one:.3f}" for one in found))
        assert all(one > 0 for one in found)
        assert_nothing_left(rig)
