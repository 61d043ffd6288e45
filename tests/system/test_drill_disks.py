"""Drills of raw disks: the file systems in a volume that was saved as a device, and in those of a virtual machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.backups.archives import Borg
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.hosts.guest import entry, guest, needs_replay
from tests.system.support.runs.live import tidy
from tests.system.support.runs.program import Said, run

pytestmark = [pytest.mark.limit(900), pytest.mark.needs("borg", "e2fsprogs")]
FILL = "for n in $(seq 60); do mkdir -p {at}/{name}$n && seq 500 >{at}/{name}$n/file; done"


def saved(drills: Drills, archive: str, *devices: str) -> list[str | Path]:
    """Have a run save devices, and return its command."""
    command: list[str | Path] = ["borg", "create", "--read-special", drills.archives.archive(archive), *devices]
    drills.saved(command)
    return command


def judged(drills: Drills, archive: str, disk: Volume, status: int = 0) -> Said:
    return drills.drill(saved(drills, archive, disk.device), status=status)


def filled(disk: Volume, at: Path, name: str) -> bytes:
    """Write directories to the file system of a disk, and return what is on it then."""
    at.mkdir(exist_ok=True)
    run("mount", disk.device, at)
    run("sh", "-ec", FILL.format(at=at, name=name))
    run("umount", at)
    return Path(disk.device).read_bytes()


def prepared(rig: Rig) -> tuple[Drills, Volume]:
    """Give a volume with an ext4, on which nobody is."""
    drills, disk = Drills.made(rig, Borg.made), rig.volume("disk", mib=24)
    run("mkfs.ext4", "-q", "-b", "1024", disk.device)
    return drills, disk


def test_a_volume_that_was_saved_as_a_device(rig: Rig) -> None:
    with tidy():
        drills, disk = prepared(rig)
        before = filled(disk, rig.path("at"), "before")
        said = judged(drills, "good", disk)
        assert verdicts(said) == {disk.full_name: "good"}
        assert f"{disk.full_name}: right: e2fsck -f -n of ext4 ({disk.device})" in said.err
        assert before == Path(disk.device).read_bytes()
        Path(disk.device).write_bytes(bytes(4096) + before[4096:])
        said = judged(drills, "flipped", disk, 74)
        assert verdicts(said) == {disk.full_name: "bad"}
        assert f"wrong: {disk.device}: its superblock is damaged; a copy of it, of an ext2, ext3 or ext4" in said.err


@pytest.mark.soak
def test_one_that_shows_two_instants(rig: Rig) -> None:
    with tidy():
        drills, disk = prepared(rig)
        before = filled(disk, rig.path("at"), "before")
        run("sh", "-ec", f"mount {disk.device} {rig.path('at')}; rm -r {rig.path('at')}/*; umount {rig.path('at')}")
        after = filled(disk, rig.path("at"), "after")
        command = saved(drills, "good", disk.device)
        Path(disk.device).write_bytes(after[: 400 << 10] + before[400 << 10 :])
        said = judged(drills, "torn", disk, 74)
        assert verdicts(said) == {disk.full_name: "bad"}
        assert f"{disk.full_name}: wrong: {disk.device}: ext4: " in said.err
        said = drills.drill(command, disk.full_name, "--archive", "good")
        assert verdicts(said) == {disk.full_name: "good"}
        said = drills.drill(command, "vg/none", status=64)
        assert "has saved no data of vg/none that is known" in said.err


@pytest.mark.needs("qemu-ga")
def test_the_disks_of_a_machine_that_runs(rig: Rig) -> None:
    """Its agent has frozen them; and then, as a power cut would have left them."""
    with tidy():
        drills = Drills.made(rig, Borg.made)
        with guest(rig, "one", disks=2) as (one, disks):
            drills.applications.append(entry(one, disks))
            command = saved(drills, "frozen", *(disk.device for disk in disks))
        said = drills.drill(command)
        assert verdicts(said) == {"one": "good"}
        assert f"one: right: e2fsck -f -n of ext4 ({disks[0].device}), e2fsck -f -n of ext4 (" in said.err
        drills.applications.clear()
        with guest(rig, "two") as (_, disks):
            command = saved(drills, "running", disks[0].device)
        said = drills.drill(command)
        assert verdicts(said) == {disks[0].full_name: "good"}
        copy = rig.path("copy")
        copy.mkdir()
        drills.archives.extract("running", copy)
        assert needs_replay(copy / disks[0].device.lstrip("/"))


@pytest.mark.soak
@pytest.mark.needs("xfsprogs")
def test_an_xfs_that_was_mounted_is_not_judged(rig: Rig) -> None:
    with tidy():
        drills, disk = Drills.made(rig, Borg.made), rig.volume("disk", mib=320)
        run("mkfs.xfs", "-q", disk.device)
        filled(disk, rig.path("at"), "before")
        assert verdicts(judged(drills, "good", disk)) == {disk.full_name: "good"}
        run("mount", disk.device, rig.path("at"))
        run("sh", "-ec", FILL.format(at=rig.path("at"), name="more"))
        try:
            archive = saved(drills, "mounted", disk.device)
        finally:
            run("umount", rig.path("at"))
        said = drills.drill(archive, status=77)
        assert verdicts(said) == {disk.full_name: "not judged"}
        assert f"xfs ({disk.device}): its log has changes that only a mount replays" in said.err
