"""The lab itself: is this really the machine that the other system tests believe in?"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import time
from pathlib import Path

import pytest

from tests.rig import Kind, Rig
from tests.rig.leftovers import state
from tests.rig.names import ForeignNameError
from tests.rig.tools import change, run


@pytest.mark.each_kernel
def test_device_mapper_answers() -> None:
    assert "Driver version" in run("dmsetup", "version")
    targets = run("dmsetup", "targets")
    assert "linear" in targets


@pytest.mark.each_kernel
def test_kernel_is_the_one_asked_for() -> None:
    wanted = os.environ["BORG_LVM_LAB_KERNEL"]
    machine, _, series = wanted.rpartition("-")
    if machine == "uml":
        # Its release does not say so; its processor does.
        assert Path("/proc/cpuinfo").read_text().count("User Mode Linux") == 1
    assert platform.release().startswith(f"{series}.")


@pytest.mark.each_kernel
def test_lvm_sees_loop_devices_only(rig: Rig) -> None:
    group = rig.group(disks=2)
    report = json.loads(run("pvs", "--all", "--reportformat", "json", "-o", "pv_name"))["report"][0]["pv"]
    names = {row["pv_name"] for row in report}
    assert set(group.disks) <= names
    assert all(name.startswith("/dev/loop") for name in names)


def test_there_are_few_devices() -> None:
    """Each command of LVM's looks at every one."""
    assert len(os.listdir("/dev")) < 100


SYS_CLOCK_GETTIME, CLOCK_MONOTONIC = 228, 1  # x86_64; linux/time.h
SLACK = 500_000  # nanoseconds; 35,000 were measured in a guest, half of what the kernel takes to answer


@pytest.mark.each_series
def test_the_time_that_programs_are_told_is_the_kernels() -> None:
    """Under User Mode Linux the kernel is asked now and then only (tests/lab/guest/populate.c)."""
    libc, said = ctypes.CDLL(None), (ctypes.c_long * 2)()

    def kernels() -> int:
        assert libc.syscall(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, said) == 0
        return said[0] * 10**9 + said[1]

    last, end = 0, time.monotonic() + 1
    while time.monotonic() < end:
        before, told, after = kernels(), time.monotonic_ns(), kernels()
        assert before - SLACK < told < after + SLACK
        assert last <= told
        last = told


def build_and_tear_down(kind: Kind, fs: str, luks_version: int | None = None) -> None:
    """Build one volume, write to it, read it back, take it away; nothing may be left of it."""
    before = state_under_a_rig()
    with Rig() as rig:
        volume = rig.volume("data", kind=kind, fs=fs, at=rig.path("mnt"), luks_version=luks_version)
        assert volume.at is not None
        (volume.at / "file").write_text("content")
        run("sync", "-f", str(volume.at))
        assert (volume.at / "file").read_text() == "content"
        assert rig.leftovers() == []
    assert state_under_a_rig() == before


def state_under_a_rig() -> set[str]:
    """Return the machine's state as LVM shows it when it sees loop devices only."""
    with Rig():
        return state()


@pytest.mark.parametrize("kind", ["thick", "striped", "thin", "raid1", "cachevol", "cachepool"])
@pytest.mark.some_kernel
def test_rig_builds_and_tears_down(kind: Kind) -> None:
    build_and_tear_down(kind, "ext4")


@pytest.mark.parametrize("fs", ["ext2", "ext3", "xfs", "btrfs"])
def test_rig_makes_file_systems(fs: str) -> None:
    build_and_tear_down("thick", fs)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.parametrize("version", [1, 2])
def test_rig_makes_luks(version: int, fs: str) -> None:
    build_and_tear_down("thick", fs, version)


def test_rig_sees_what_is_left(rig: Rig) -> None:
    volume = rig.volume("data", fs="ext4", at=rig.path("mnt"))
    change("lvcreate", volume.full_name, "-s", "-n", "forgotten", "-L", "8m", "--addtag", "borg_lvm")
    found = rig.leftovers()
    assert f"tagged volume {volume.group.name}/forgotten" in found
    assert any(line.startswith("device-mapper device") and line.endswith("forgotten") for line in found)


def test_rig_recovers_what_was_left_frozen() -> None:
    before = state_under_a_rig()
    with Rig() as rig:
        frozen = rig.volume("frozen", fs="ext4", at=rig.path("frozen"))
        suspended = rig.volume("suspended")
        subprocess.run(["fsfreeze", "-f", str(frozen.at)], check=True)
        run("dmsetup", "suspend", suspended.device)
        assert any(line.startswith("suspended device") for line in rig.leftovers())
    assert state_under_a_rig() == before


def fail_in_the_middle() -> None:
    with Rig() as rig:
        rig.volume("data", fs="ext4", at=rig.path("mnt"))
        raise RuntimeError("in the middle")


def test_rig_undoes_what_it_made_before_a_failure() -> None:
    before = state_under_a_rig()
    with pytest.raises(RuntimeError, match="in the middle"):
        fail_in_the_middle()
    assert state_under_a_rig() == before


def test_rig_refuses_a_foreign_group() -> None:
    with pytest.raises(ForeignNameError):
        change("vgremove", "blt_abcdef_0000", "--force")


@pytest.mark.each_kernel
def test_results_outlive_the_guest() -> None:
    (Path(os.environ["BORG_LVM_LAB_OUT"]) / "proof").write_text("here")
