"""ZFS: snapshots of all datasets of a pool in one step, while all volumes are held."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.machine import zfs_datasets
from borg_lvm.snapshots.zfs import hold, library
from tests.rig import Rig
from tests.rig.zpool import Pool, pool
from tests.system.support.runs import certificates
from tests.system.support.runs.live import Gate, Run, assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import borg_lvm, run
from tests.system.support.writers import treehash

pytestmark = [pytest.mark.soak, pytest.mark.limit(600)]


@pytest.fixture
def tank(rig: Rig) -> Iterator[Pool]:
    """Make a pool; in the end no snapshot of ours is in it."""
    with tidy():
        made = pool(rig, "tank")
        yield made
        assert made.snapshots() == []
        assert_nothing_left(rig)


@pytest.fixture
def home(tank: Pool) -> Path:
    """Make a dataset with a file."""
    at = tank.dataset("home")
    (at / "file").write_text("old")
    return at


def kept(top: str | Path) -> treehash.Tree:
    return treehash.tree(top, leave_out=frozenset(["xattrs"]))


def test_the_archive_is_the_snapshot_of_all_datasets(tank: Pool, home: Path, rig: Rig) -> None:
    """A dataset, one below it, one of a legacy mount point, an encrypted one, a clone; and a volume of LVM's."""
    below = tank.dataset("home/below", at=home / "below")
    key = rig.path("key")
    key.write_text("a pass phrase\n")
    secret = tank.dataset("secret", "encryption=on", "keyformat=passphrase", f"keylocation=file://{key}")
    legacy = rig.path("legacy")
    legacy.mkdir()
    run("zfs", "create", "-o", "mountpoint=legacy", "tank/legacy")
    run("mount", "-t", "zfs", "tank/legacy", legacy)
    run("zfs", "snapshot", "tank/secret@theirs")
    clone = rig.path("clone")
    run("zfs", "clone", "-o", f"mountpoint={clone}", "tank/secret@theirs", "tank/clone")
    rig._remember()
    volume = rig.volume("data", fs="ext4", at=rig.path("data")).at
    assert volume
    places = [home, secret, legacy, clone, volume]
    for place in (*places, below):
        (place / "many").write_bytes(os.urandom(1 << 16))
        (place / "link").symlink_to("many")
    before = [kept(place) for place in places]
    saved = rig.path("saved")
    saved.mkdir()
    gate = Gate(rig.directory, "command")
    tar = f"tar --format=posix -C / -cf {saved}/all.tar {' '.join(str(place)[1:] for place in places)}"
    words = [word for place in places for word in ("--path", str(place))]
    live = Run("run", *words, "--", "sh", "-ec", f"{gate.shell}; {tar}")
    gate.reached(process=live.process)
    assert len(tank.snapshots()) == 5
    for place in (*places, below):
        (place / "many").write_text("new")
        (place / "late").write_text("late")
    gate.open()
    live.end()
    run("tar", "-C", saved, "-xf", saved / "all.tar")
    for place, known in zip(places, before, strict=True):
        assert treehash.differences(known, kept(f"{saved}{place}")) == []
        assert treehash.differences(known, kept(place)) != []  # the judge can fail
    volumes = certificates.read()["volumes"]
    datasets = [one for one in volumes if one["snapshot"] == "dataset"]
    assert [one["volume"] for one in volumes if one["held_by"] == "suspend"] == [volumes[-1]["volume"]]
    assert {one["held_by"] for one in datasets} == {"none"}
    assert len(datasets) == 5
    assert len({one["transaction"] for one in datasets}) == 1
    assert datasets[0]["transaction"] > 0
    run("umount", legacy)
    run("zfs", "destroy", "tank/clone")


def test_two_snapshots_one_after_the_other_are_no_moment(tank: Pool, home: Path) -> None:
    """The proof: of two calls the groups of transactions differ, and that is refused."""
    run_id = "20260101T000000-abcdef"
    names = [f"tank/home@borg_lvm-{run_id}-{number}" for number in (0, 1)]
    read = ("createtxg", "borg-lvm:run")
    for name in names:
        with library.taking([name], {"borg-lvm:run": run_id}) as take:
            take()
    apart = zfs_datasets.properties_of(names, read, 60.0)
    with pytest.raises(SnapshotError, match="not of one group of transactions"):
        hold.judge(names, run_id, apart)
    assert hold.judge(names[:1], run_id, apart) > 0
    with pytest.raises(SnapshotError, match="somebody else has made it"):
        hold.judge(names[:1], "20260101T000000-000000", apart)
    borg_lvm("clean")


def test_plan_and_check_know_it(home: Path) -> None:
    said = borg_lvm("plan", "--path", home, "--", "true").out
    assert "zfs:tank/home" in said
    assert "dataset" in said
    assert "takes what it needs from the pool tank, of which" in said
    checked = borg_lvm("check", "--path", home, "--", "true", status=None)
    assert f"{home} can be frozen" in checked.out, str(checked)


def test_refusals(tank: Pool, home: Path, rig: Rig) -> None:
    other = pool(rig, "other")
    there = other.dataset("there")
    (there / "file").write_text("there")
    both = ("--path", home, "--path", there)
    said = borg_lvm("run", *both, "--", "true", status=69).err
    assert "these cannot be suspended, and only datasets of one pool of ZFS are snapshotted in one step" in said
    assert "zfs:other/there, zfs:tank/home" in said or "zfs:tank/home, zfs:other/there" in said
    assert "--consistency per-volume" in said
    line = f"cat {home}/file {there}/file"
    assert borg_lvm("run", "--consistency", "per-volume", *both, "--", "sh", "-c", line).out == "oldthere"
    run("zfs", "snapshot", "tank/home@theirs")
    seen = rig.path("seen")
    seen.mkdir()
    run("mount", "-t", "zfs", "tank/home@theirs", seen)
    said = borg_lvm("run", "--path", seen, "--", "true", status=69).err
    assert "it is tank/home@theirs, a snapshot already" in said
    run("umount", seen)
    run("zfs", "create", "-V", "16M", "tank/disk")
    wait_for(lambda: Path("/dev/zd0").exists(), "zd0")
    said = borg_lvm("run", "--path", "/dev/zd0", "--", "true", status=69).err
    assert "it is zd0, a volume of ZFS" in said
    run("zfs", "destroy", "tank/disk")
    run("zfs", "set", "snapdir=visible", "tank/home")
    assert Path(f"{home}/.zfs/snapshot/theirs/file").read_text() == "old"  # ZFS mounts it, and that is in nobody's way
    assert borg_lvm("run", "--path", home, "--", "ls", "-A", home).out.split() == ["file"]
    run("umount", home / ".zfs" / "snapshot" / "theirs")


def test_one_that_is_kept_and_one_that_is_not_ours(tank: Pool, home: Path) -> None:
    said = borg_lvm("run", "--keep", "--path", home, "--", "true").err
    assert "remove with: borg-lvm clean --run " in said
    run_id = said.partition("clean --run ")[2].split()[0]
    (snapshot,) = tank.snapshots()
    assert run("zfs", "holds", "-H", snapshot).out.split()[:2] == [snapshot, "borg-lvm"]
    assert run("zfs", "destroy", snapshot, status=None).status != 0  # it is held
    assert tank.snapshots() == [snapshot]
    borg_lvm("clean")
    borg_lvm("run", "--path", home, "--", "true")
    assert tank.snapshots() == [snapshot]
    borg_lvm("clean", "--run", run_id)
    theirs = "tank/home@borg_lvm-20260101T000000-abcdef-0"
    run("zfs", "snapshot", theirs)
    borg_lvm("clean")
    assert tank.snapshots() == [theirs]  # it has our name, and not our property
    run("zfs", "destroy", theirs)


def test_who_stays_in_the_view_is_ended_and_nobody_else(home: Path) -> None:
    with subprocess.Popen(["sleep", "100"], cwd=home) as stranger:
        said = borg_lvm("run", "--path", home, "--", "sh", "-c", f"cd {home}; sleep 100 & sleep 0.3")
        assert "still using a snapshot after the command has ended" in said.err
        assert stranger.poll() is None
        stranger.kill()


def test_begin_and_end(home: Path) -> None:
    borg_lvm("begin", "nightly", "--path", home)
    view = Path("/run/borg-lvm/view/nightly")
    (home / "file").write_text("new")
    assert Path(f"{view}{home}/file").read_text() == "old"
    with subprocess.Popen(["sleep", "100"], cwd=f"{view}{home}") as holder:
        borg_lvm("end", "nightly")
        assert holder.wait(10) != 0


@pytest.mark.parametrize("step", ["command", "snapshot", "window"])
def test_what_a_killed_run_leaves_is_cleaned(tank: Pool, home: Path, rig: Rig, step: str) -> None:
    """Killed with its watchdog: while the command runs, when the snapshot is there, and in a window with a volume."""
    gate = Gate(rig.directory, "command")
    volume = rig.volume("data", fs="ext4", at=rig.path("data"))
    live = Run("run", "--path", str(home), "--path", str(volume.at), "--", "sh", "-ec", f"{gate.shell}; sleep 100")
    if step == "command":
        gate.reached(process=live.process)
    else:
        wait_for(tank.snapshots if step == "snapshot" else lambda: live.step("window"), step)
    live.kill()
    live.end(-9)
    borg_lvm("clean")
    assert tank.snapshots() == []
    (home / "after").write_text("goes on")
