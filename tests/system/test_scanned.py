"""Servers on which LVM looks for physical volumes on logical ones (`scan_lvs = 1`), and finds some that we suspend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import assert_nothing_left, end_dmeventd, tidy
from tests.system.support.runs.program import borg_lvm, run
from tests.system.support.writers.tables import assert_same, tables
from tests.system.support.writers.writers import Writer, writing

pytestmark = pytest.mark.limit(1800)
RUNS = 20 if "BORG_LVM_RUNS" in os.environ else 2
LONGEST = 1.0  # seconds that a writer may wait


@contextmanager
def as_servers_have_it() -> Iterator[None]:
    """Take away the filter of these tests, and have LVM look everywhere; dmeventd may be at work."""
    configuration = Path(os.environ["LVM_SYSTEM_DIR"], "lvm.conf")
    usual = configuration.read_text()
    lines = [line for line in usual.splitlines() if "global_filter" not in line]
    at = lines.index("devices {") + 1
    configuration.write_text(
        "\n".join([*lines[:at], "    scan_lvs = 1", *lines[at:]]).replace("monitoring = 0", "monitoring = 1")
    )
    try:
        yield
    finally:
        configuration.write_text(usual)


@contextmanager
def group_on(volume: Volume, at: Path) -> Iterator[str]:
    """Have another group, with a mounted volume in it, on a volume."""
    run("pvcreate", "-q", "-y", volume.device)
    run("vgcreate", "-q", "blt_nested", volume.device)
    try:
        run("lvcreate", "-q", "-y", "-n", "inner", "-L", "32m", "blt_nested")
        run("mkfs.ext4", "-q", "/dev/mapper/blt_nested-inner")
        at.mkdir()
        run("mount", "/dev/mapper/blt_nested-inner", at)
        yield "blt_nested/inner"
    finally:
        run("umount", at, status=None)
        run("vgremove", "-q", "-y", "-f", "blt_nested")
        run("pvremove", "-q", "-y", "-f", volume.device)


def errors() -> list[str]:
    return [
        line for line in run("dmesg").out.splitlines() if "I/O error" in line or "mapping table unavailable" in line
    ]


@pytest.mark.parametrize("nested", [False, True], ids=["beside", "together"])
def test_scanned_volumes_are_never_waited_for(rig: Rig, nested: bool) -> None:
    """`together`: the volume below is a source as well, as the disk of a virtual machine would be."""
    with tidy(), as_servers_have_it():
        one = rig.volume("one", fs="ext4", mib=48, at=rig.path("one"))
        two = rig.volume("two", fs="xfs", mib=64, at=rig.path("two"))
        disk = rig.volume("disk", mib=96)
        with group_on(disk, rig.path("inner")):
            places = [rig.path(name) for name in ("one", "two", "inner")]
            sources = [word for place in places for word in ("--path", str(place))]
            sources += ["--path", disk.device] if nested else []
            before, trouble = tables(), errors()
            writers = [
                Writer("in-place-synced", (place / "written",), rig.path(f"diary-{place.name}")) for place in places
            ]
            rig.path("config.yaml").write_text("deadline: 5\n")
            with writing(writers):
                for _ in range(RUNS):
                    said = borg_lvm(
                        "run", "--config", rig.path("config.yaml"), "--snapshot-size", "8M", *sources, "--", "true"
                    )
                    assert "frozen at" in said.err
                    if one.at and two.at:
                        run("lvs", "-a")
            for writer in writers:
                waits = [(end - begin) / 1e9 for begin, end in writer.diary_of_writes()]
                assert max(waits) < LONGEST, writer
            assert errors() == trouble
            end_dmeventd()
            assert_same(before, tables())
            run("vgck", one.group.name)
        assert_nothing_left(rig)


def test_what_must_be_read_meanwhile_is_refused_by_name(rig: Rig) -> None:
    """A thin pool on a volume that is a source itself."""
    with tidy(), as_servers_have_it():
        disk = rig.volume("disk", mib=128)
        with group_on(disk, rig.path("inner")):
            run("lvcreate", "-q", "-y", "-T", "-L", "32m", "-V", "32m", "-n", "thin", "blt_nested/pool")
            run("mkfs.ext4", "-q", "/dev/mapper/blt_nested-thin")
            rig.path("thin").mkdir()
            run("mount", "/dev/mapper/blt_nested-thin", rig.path("thin"))
            try:
                paths: list[str | Path] = ["--path", rig.path("thin"), "--path", disk.device]
                for verb in ("plan", "run"):
                    said = borg_lvm(verb, *paths, "--", "true", status=69)
                    assert f"blt_nested/thin lies on {disk.full_name}, which is to be suspended" in said.err
                borg_lvm("run", *paths[:2], "--", "true")
            finally:
                run("umount", rig.path("thin"))
                end_dmeventd()
        assert_nothing_left(rig)
