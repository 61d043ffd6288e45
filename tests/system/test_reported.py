"""Public reports of people who back up from snapshots (tests/cases.md), each tried as it was told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.live import Run, assert_nothing_left, tidy
from tests.system.support.runs.program import BIN, borg_lvm, run

pytestmark = pytest.mark.limit(300)
CLIENTS = 25


def filled(rig: Rig, name: str = "data") -> tuple[Volume, Path]:
    """Return a volume that is mounted, and a file on it."""
    volume = rig.volume(name, fs="ext4", at=rig.path(name))
    assert volume.at
    (volume.at / "file").write_text("frozen")
    return volume, volume.at / "file"


def test_a_directory_with_a_pipe_is_not_read_as_a_device(rig: Rig) -> None:
    """With --read-special borg waits for ever for somebody who writes into the pipe (borgbackup/borg#4590)."""
    _, file = filled(rig)
    os.mkfifo(file.parent / "pipe")
    borg = Borg.made(rig.path("borg"))
    words: list[str | Path] = ["borg", "create", "--one-file-system", "--read-special", borg.archive("a"), file.parent]
    said = borg_lvm("run", "--", *words, env=borg.env, status=64)
    assert f"{file.parent}: borg also reads the devices and named pipes that it finds there" in said.err
    assert rig.leftovers() == []


@pytest.mark.parametrize("size", ["24373939B", "23.24M"])
def test_a_size_that_is_no_multiple_of_512(rig: Rig, size: str) -> None:
    """Then lvcreate refuses it (marcpope/borgbackupserver#498): it is rounded up to whole extents."""
    _, file = filled(rig)
    with tidy():
        said = borg_lvm("run", "--snapshot-size", size, "--path", file.parent, "--", "cat", file)
        assert said.out == "frozen"
        assert "of 24.0 MiB snapshot space used" in said.err
        assert_nothing_left(rig)


def test_a_view_that_is_begun_in_a_sandbox_is_refused(rig: Rig) -> None:
    """Nobody outside of the sandbox would see it (openSUSE/snapper#651)."""
    _, file = filled(rig)
    sandbox = ["unshare", "--mount", "--propagation", "slave"]
    said = run(*sandbox, BIN / "borg-lvm", "begin", "nightly", "--path", file.parent, status=64)
    assert "a backup outside of it would find the view empty" in said.err
    assert "nsenter --target 1 --mount borg-lvm begin" in said.err
    assert rig.leftovers() == []


def test_somebody_removes_the_snapshot_before_it_is_read(rig: Rig) -> None:
    """A script that first removes old snapshots (borgbackup/borg#1832, enzingerm/snapborg#1): nobody holds a device."""
    disk = rig.volume("disk", mib=16)
    started = rig.path("started")
    with tidy():
        live = Run("run", "--path", disk.device, "--", "sh", "-c", f": >{started}; sleep 60; cat {disk.device}")
        live.waited_for(started.exists, "the command")
        run("lvremove", "-f", f"{disk.group.name}/borg_lvm-{live.id()}-0")
        said = live.end(74)
        assert said.out == ""
        assert f"the snapshot of {disk.full_name} was lost" in said.err
        assert_nothing_left(rig)


def test_a_volume_for_each_of_many_clients(rig: Rig) -> None:
    """A backup host mirrors all of them in one call (restic/restic#4755)."""
    group = rig.group(mib=900)
    places = []
    for number in range(CLIENTS):
        volume = rig.volume(f"client{number}", fs="ext4", mib=12, group=group, at=rig.path(f"client{number}"))
        assert volume.at
        (volume.at / "file").write_text(f"{number}\n")
        places.append(volume.at)
    script = 'for place; do echo live >"/proc/1/root$place/file"; done; for place; do cat "$place/file"; done'
    with tidy():
        paths = [word for place in places for word in ("--path", place)]
        said = borg_lvm("run", *paths, "--", "sh", "-c", script, "sh", *places)
        assert said.out.split() == [str(number) for number in range(CLIENTS)]
        assert len([line for line in said.err.splitlines() if "frozen at" in line]) == 1
        assert_nothing_left(rig)


def test_a_uuid_leads_to_the_volume_while_there_is_a_snapshot(rig: Rig) -> None:
    """A program that looks for a file system by its UUID found the snapshot (teejee2008/timeshift#247)."""
    volume, file = filled(rig)
    uuid = run("blkid", "-s", "UUID", "-o", "value", volume.device).out.strip()
    look = f"findfs UUID={uuid}; blkid -c /dev/null -U {uuid}"
    with tidy():
        said = borg_lvm("run", "--path", file.parent, "--", "nsenter", "--target", "1", "--mount", "sh", "-c", look)
        assert [os.path.realpath(line) for line in said.out.split()] == [os.path.realpath(volume.device)] * 2
        assert_nothing_left(rig)
