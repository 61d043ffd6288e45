"""Which btrfs something is on, from what a kernel (6.18) said of one: its id in sysfs, `f_fsid` of two subvolumes."""

from __future__ import annotations

import os
import stat
import types
from pathlib import Path

import pytest

from borg_lvm.linux import btrfs, processes, safe_open
from borg_lvm.linux.btrfs import Mounted, SubvolumeId
from borg_lvm.watchdog import writers
from borg_lvm.watchdog.writers import Targets

ID, OTHER = "ff7a24d8-3b5a-4d73-b254-0f9fe59834b8", "accf9f4e-36b5-41cd-acc0-0fd1f3db8116"
TOP, HOME = 0xDEC279CE4D2E2B47, 0xDEC278C94D2E2B47
VOLUME = os.makedev(253, 7)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two btrfs; the working directory is in one of them."""
    for name, devices in ((ID, ["253:7"]), (OTHER, ["8:1", "8:17"])):
        for number, device in enumerate(devices):
            directory = tmp_path / name / "devices" / f"dm-{number}"
            directory.mkdir(parents=True)
            (directory / "dev").write_text(f"{device}\n")
        (tmp_path / name / "exclusive_operation").write_text("none\n")
    (tmp_path / "features").mkdir()
    monkeypatch.setattr(btrfs, "SYSFS", str(tmp_path))
    return tmp_path


def answers(monkeypatch: pytest.MonkeyPatch, mark: int) -> None:
    """Have the kernel say this of whatever it is asked about."""
    monkeypatch.setattr(os, "statvfs", lambda what: types.SimpleNamespace(f_fsid=mark))


@pytest.mark.parametrize(("mark", "subvolume"), [(TOP, 5), (HOME, 258)])
def test_the_device_and_the_subvolume(
    machine: Path, monkeypatch: pytest.MonkeyPatch, mark: int, subvolume: int
) -> None:
    answers(monkeypatch, mark)
    assert btrfs.place("/srv") == SubvolumeId(VOLUME, subvolume)


@pytest.mark.parametrize("mark", [0, HOME ^ 1, HOME >> 32])
def test_what_is_on_none(machine: Path, monkeypatch: pytest.MonkeyPatch, mark: int) -> None:
    answers(monkeypatch, mark)
    assert btrfs.place("/srv") is None


def test_nobody_is_asked_where_none_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a file system on the network, which may not answer."""
    monkeypatch.setattr(btrfs, "SYSFS", str(tmp_path))
    monkeypatch.setattr(os, "statvfs", lambda what: pytest.fail("was asked"))
    assert btrfs.place("/srv") is None


def test_what_is_mounted(machine: Path) -> None:
    found = sorted(btrfs.mounted(), key=lambda one: one.id)
    assert found == [Mounted(OTHER, ("8:1", "8:17"), "none"), Mounted(ID, ("253:7",), "none")]


def test_identities_tell_subvolumes_apart(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first directory of each has the inode 256."""
    anonymous = os.stat_result((0o40755, 256, os.makedev(0, 43), 1, 0, 0, 0, 0, 0, 0))
    found = set()
    for mark in (TOP, HOME):
        answers(monkeypatch, mark)
        found.add(safe_open._identity(anonymous, "/srv"))
    assert found == {safe_open.Identity(VOLUME, 256, 5), safe_open.Identity(VOLUME, 256, 258)}


def test_one_that_is_apart_has_its_own_number(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever ended the users of a snapshot would end those of the live file system."""
    monkeypatch.setattr(btrfs, "_APART", {})
    number = btrfs.set_apart(os.makedev(0, 43), "/.borg-lvm/borg_lvm-1-0")
    answers(monkeypatch, HOME)
    anonymous = os.stat_result((0o40755, 256, number, 1, 0, 0, 0, 0, 0, 0))
    assert safe_open._identity(anonymous, "/srv") == safe_open.Identity(number, 256)
    monkeypatch.setattr(os, "stat", lambda path: anonymous)
    assert processes.devices_at("/srv") == {number}


def test_a_process_uses_the_device(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, HOME)
    assert processes.devices_at("/proc/self") == {VOLUME}  # proc has an anonymous number


def test_the_watchdog_knows_every_subvolume(monkeypatch: pytest.MonkeyPatch) -> None:
    on = Targets(frozenset([VOLUME]), frozenset([TOP & 0xFFFFFFFF]))
    answers(monkeypatch, HOME)
    assert not on.has("/proc/self")
    monkeypatch.setattr(writers, "known", lambda path: (os.makedev(0, 43), stat.S_IFREG | 0o644))
    monkeypatch.setattr(writers, "handle", lambda path: 1)
    assert not on.has("/proc/self")  # what is no btrfs, and may not answer, is not asked
    monkeypatch.setattr(writers, "handle", lambda path: writers.OF_BTRFS[0])
    assert on.has("/proc/self")
    assert not Targets(frozenset([VOLUME]), frozenset()).has("/proc/self")
    answers(monkeypatch, 1)
    assert not on.has("/proc/self")
    monkeypatch.setattr(writers, "handle", lambda path: 0)
    assert on.has("/proc/self")  # an overlay may lie above it
