"""btrfs on a logical volume: its subvolumes are of the instant, and the snapshot is never taken for the live one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from borg_lvm.linux import btrfs, safe_open
from borg_lvm.machine import btrfs_superblock
from borg_lvm.planning.plan import Snapshot
from borg_lvm.snapshots.lvm import btrfs_snapshot
from borg_lvm.watchdog import frozen
from tests.rig import Rig
from tests.rig.filesystems import mounted
from tests.rig.tools import change
from tests.rig.volumes import Volume
from tests.system.support.backups.archives import Borg, statuses
from tests.system.support.runs import certificates
from tests.system.support.runs.gate import BORG_LVM
from tests.system.support.runs.live import Gate, Programs, Run, assert_nothing_left, is_writable, tidy, wait_for
from tests.system.support.runs.program import borg_lvm, run
from tests.system.support.writers import treehash
from tests.unit.data.machine import VOLUME, Machine

pytestmark = [pytest.mark.needs("btrfs"), pytest.mark.limit(300)]


def made(rig: Rig) -> Path:
    """Make a volume with a btrfs; return where it is mounted."""
    volume = rig.volume("data", fs="btrfs", at=rig.path("data"))
    assert volume.at
    return volume.at


def create(*paths: Path) -> None:
    """Make subvolumes, with a file in each."""
    for path in paths:
        run("btrfs", "subvolume", "create", path)
        (path / "file").write_text(f"old {path.name}")


@contextmanager
def subvolume(rig: Rig, device: str, name: str, options: str = "") -> Iterator[Path]:
    """Mount a subvolume elsewhere."""
    with mounted(device, rig.path(f"at-{name}"), f"subvol={name}{options}") as at:
        rig._remember()
        yield at


def kept(top: str | Path) -> treehash.Tree:
    """Return what is to be the same; `btrfs.compression` is an attribute that no other file system takes."""
    return treehash.tree(top, leave_out=frozenset(["xattrs"]))


@pytest.mark.each_series
def test_subvolumes_are_those_of_one_instant(rig: Rig) -> None:
    """Two of them mounted apart, one in one of them, one read-only; quota groups, compressed files, a swap file."""
    with tidy(), ExitStack() as stack:
        volume = rig.volume("data", fs="btrfs", at=rig.path("data"))
        top = rig.path("data")
        create(top / "@", top / "@" / "inner", top / "@" / "inner" / "deep", top / "@home")
        run("btrfs", "quota", "enable", top)
        run("btrfs", "property", "set", top / "@home", "compression", "zstd")
        (top / "@home" / "many").write_bytes(bytes(1 << 20) + os.urandom(1 << 16))
        run("btrfs", "subvolume", "snapshot", "-r", top / "@home", top / "@ro")
        swap = top / "@" / "swap"
        run("sh", "-ec", f"touch {swap}; chattr +C {swap}; fallocate -l 2M {swap}; chmod 600 {swap}; mkswap {swap}")
        run("swapon", swap)
        stack.callback(run, "swapoff", swap)
        places = [stack.enter_context(subvolume(rig, volume.top, name)) for name in ("@", "@home")]
        places.append(stack.enter_context(subvolume(rig, volume.top, "@ro", ",ro")))
        before = [kept(place) for place in places]

        saved = rig.path("saved")
        saved.mkdir()
        gate = Gate(rig.directory, "command")
        tar = f"tar --format=posix -C / -cf {saved}/all.tar {' '.join(str(place)[1:] for place in places)}"
        words = [word for place in places for word in ("--path", str(place))]
        live = Run("run", *words, "--", "sh", "-ec", f"{gate.shell}; {tar}; grep ' - btrfs ' /proc/self/mountinfo")
        gate.reached(process=live.process)
        assert len(run("lvs", "--noheadings", "-o", "lv_name", "@borg_lvm").out.split()) == 1
        for path in (top / "@" / "file", top / "@" / "inner" / "file", top / "@" / "inner" / "deep" / "file"):
            path.write_text("new")
        run("btrfs", "subvolume", "delete", top / "@" / "inner" / "deep")
        create(top / "@" / "late")
        gate.open()
        said = live.end()
        assert "stays in the page cache" not in said.err
        run("tar", "-C", saved, "-xf", saved / "all.tar")
        for place, tree in zip(places, before, strict=True):
            assert treehash.differences(tree, kept(f"{saved}{place}")) == []
        assert treehash.differences(before[0], kept(places[0])) != []  # the judge can fail
        assert_nothing_left(rig)


@pytest.mark.soak
def test_what_reads_a_nested_subvolume_is_found(rig: Rig) -> None:
    """Device numbers are anonymous, another one in each subvolume: also of a file that is mapped, and not open."""
    with tidy():
        at = made(rig)
        create(at / "inner")
        mapping = (
            "import mmap,os,time; fd = os.open('file', os.O_RDONLY); m = mmap.mmap(fd, 0, prot=mmap.PROT_READ); "
            "os.close(fd); os.chdir('/'); open(os.environ['READY'], 'x').close(); time.sleep(100)"
        )
        line = f'cd {at}/inner; sleep 100 & {sys.executable} -c "{mapping}" & until [ -e $READY ]; do sleep 0.1; done'
        env = {"READY": str(rig.path("ready"))}
        said = borg_lvm("run", "--path", at, "--", "sh", "-c", line, env=env)
        assert "sleep (" in said.err
        assert "python" in said.err
        assert "after the command has ended: sending SIGTERM to" in said.err
        assert_nothing_left(rig)


@pytest.mark.soak
def test_begin_and_end(rig: Rig) -> None:
    with tidy():
        at = made(rig)
        create(at / "inner")
        borg_lvm("begin", "nightly", "--path", at)
        view = Path("/run/borg-lvm/view/nightly")
        (at / "inner" / "file").write_text("new")
        assert Path(f"{view}{at}/inner/file").read_text() == "old inner"
        with subprocess.Popen(["sleep", "100"], cwd=f"{view}{at}/inner") as holder:
            borg_lvm("end", "nightly")
            assert holder.wait(10) != 0
        assert_nothing_left(rig)


@pytest.mark.soak
def test_what_was_saved_is_proven(rig: Rig) -> None:
    with tidy():
        at = made(rig)
        create(at / "inner")
        borg_lvm("run", "--prove", "all", "--", "tar", "-C", "/", "-cf", rig.path("all.tar"), at)
        proof = certificates.read()["proof"]
        assert (proof["state"], proof["files"], proof["unchecked"]) == ("proven", 1, [])
        assert_nothing_left(rig)


@pytest.mark.each_series
def test_scans_never_mix_the_snapshot_with_the_live_file_system(rig: Rig) -> None:
    """A real scan at each moment of a snapshot's life, as by udev's rules; the live one is unmounted meanwhile, too."""
    with tidy():
        volume = rig.volume("data", fs="btrfs", mib=128)
        at, snapshot_at = rig.path("data"), rig.path("copy")
        snapshot = as_planned(volume)
        with mounted(volume.top, at, kind="btrfs"):
            (at / "file").write_text("old")
            run("sh", "-ec", f"fsfreeze -f {at}; lvcreate -qq -s -n copy -L 16m {volume.full_name}; fsfreeze -u {at}")
            scan(volume, snapshot)
            lies_on(at, volume)
            with pytest.raises(OSError, match="busy"):  # never the live one, by whatever name
                btrfs_snapshot.give_own_id(replace(snapshot, name="data"))
            btrfs_snapshot.give_own_id(snapshot)
            scan(volume, snapshot)
            lies_on(at, volume)
            with mounted(snapshot.device, snapshot_at, "ro,subvolid=5"):
                scan(volume, snapshot)
                (at / "file").write_text("new")
                os.sync()
                assert (snapshot_at / "file").read_text() == "old"
                lies_on(at, volume)
                lies_on(snapshot_at, volume, "copy")
            scan(volume, snapshot)
        scan(volume, snapshot)
        with mounted(volume.top, at, kind="btrfs"):
            lies_on(at, volume)
            assert (at / "file").read_text() == "new"
        change("lvremove", f"{volume.group.name}/copy")
        assert_nothing_left(rig)


def as_planned(volume: Volume) -> Snapshot:
    """Return the snapshot `snapshot` of a volume as a plan has it."""
    origin = replace(VOLUME, vg=volume.group.name, name=volume.name)
    machine = Machine()
    machine.mount("/data", "vg0/home")
    return replace(machine.plan(machine.resolve("/data")).snapshots[0], origin=origin, name="copy", fstype="btrfs")


def scan(volume: Volume, snapshot: Snapshot) -> None:
    """Have the kernel look at all devices, then at both of these by name, in either order."""
    for devices in ([], [snapshot.device], [volume.device], [snapshot.device]):
        subprocess.run(["btrfs", "device", "scan", *devices], capture_output=True, check=False)
        subprocess.run(["btrfs", "device", "ready", snapshot.device], capture_output=True, check=False)


def lies_on(at: Path, volume: Volume, name: str = "") -> None:
    """Check from the kernel which device is mounted at a path, and that it is whole."""
    place = btrfs.place(str(at))
    device = f"/dev/{volume.group.name}/{name or volume.name}"
    assert place
    assert place.device == os.stat(device).st_rdev
    found = [one for one in btrfs.mounted() if f"{os.major(place.device)}:{os.minor(place.device)}" in one.devices]
    assert [len(one.devices) for one in found] == [1]
    assert "[/dev" not in run("btrfs", "device", "stats", "--check", at).err


@pytest.mark.soak
def test_a_run_while_somebody_scans_without_end(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", fs="btrfs", at=rig.path("data"))
        at = rig.path("data")
        (at / "file").write_text("old")
        line = "while :; do btrfs device scan; for d in /dev/mapper/*; do btrfs device scan $d; done; done"
        with subprocess.Popen(["sh", "-c", line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as scanner:
            try:
                said = [borg_lvm("run", "--path", at, "--", "cat", at / "file").out for _ in range(2)]
            finally:
                scanner.kill()
        assert said == ["old", "old"]
        lies_on(at, volume)
        (at / "file").write_text("new")
        run("umount", at)
        run("mount", volume.top, at)
        rig._remember()
        assert (at / "file").read_text() == "new"
        assert_nothing_left(rig)


def scrubbed(at: Path) -> None:
    """Have a scrub go on for a while."""
    with open(at / "much", "wb") as file:
        file.write(os.urandom(24 << 20))
    os.sync()
    (name,) = [one.id for one in btrfs.mounted()]
    Path(f"/sys/fs/btrfs/{name}/devinfo/1/scrub_speed_max").write_text("1M")
    begin_scrub(at)


def begin_scrub(at: Path) -> None:
    """Begin a scrub, and wait until the kernel is at it."""
    subprocess.Popen(["btrfs", "scrub", "start", "-B", at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    fd = os.open(at, os.O_RDONLY)
    try:
        wait_for(btrfs.prepared(fd), "the scrub")
    finally:
        os.close(fd)


@pytest.mark.soak
def test_nothing_is_frozen_while_a_scrub_is_under_way(rig: Rig) -> None:
    """It begins when the plan has been made."""
    with tidy():
        volume = rig.volume("data", fs="btrfs", at=rig.path("data"))
        at = rig.path("data")
        scrubbed(at)
        run("btrfs", "scrub", "cancel", at)
        programs = Programs(rig.path("programs"))
        gate = programs.stop_shell("before", r"lvconvert\ *", 1)
        rig.path("config.yaml").write_text("attempts: 1\n")
        live = Run("run", "--config", rig.path("config.yaml"), "--path", at, "--", "true", programs=programs)
        gate.reached(process=live.process)
        begin_scrub(at)
        gate.open()
        assert "a scrub of its btrfs is under way" in live.end(71).err
        assert is_writable(volume, seconds=5)
        run("btrfs", "scrub", "cancel", at, status=None)  # it may have come to its end
        borg_lvm("run", "--path", at, "--", "true")
        assert_nothing_left(rig)


def test_the_watchdog_cancels_a_scrub_that_a_freeze_waits_for(rig: Rig) -> None:
    """The freeze, which nothing can call off, waits for its end, and all writers for the freeze."""
    with tidy():
        at = made(rig)
        scrubbed(at)
        said = borg_lvm("plan", "--path", at, "--", "true", status=69)
        assert f"{at}: a scrub of its btrfs is under way" in said.err
        assert "btrfs scrub cancel" in said.err
        fd = os.open(at, os.O_RDONLY)
        with subprocess.Popen(["fsfreeze", "--freeze", at]) as freezer:
            time.sleep(1)
            assert freezer.poll() is None  # it waits
            frozen.stop_scrub(fd)
            wait_for(lambda: freezer.poll() is not None, "the freeze")
        run("fsfreeze", "--unfreeze", at)
        os.close(fd)


@pytest.mark.soak
def test_the_second_run_of_borg_hits_its_cache(rig: Rig) -> None:
    with tidy():
        at = made(rig)
        create(at / "inner")
        for number in range(10):
            (at / "inner" / f"file{number}").write_text(str(number))
        time.sleep(0.1)
        (at / "newest").write_text("newest")
        borg = Borg.made(rig.path("borg"))

        def saved(name: str, *before: str | Path) -> dict[str, str]:
            argv: list[str | Path] = [*before, "borg", "create", "--list", borg.archive(name), at]
            return statuses(run(*argv, env=borg.env))

        first, second = saved("one", BORG_LVM, "run", "--"), saved("two", BORG_LVM, "run", "--")
        files = {path for path, letter in first.items() if letter == "A"}
        assert len(files) == 12
        assert {path for path in files if second[path] != "U"} == {str(at / "newest")}
        assert saved("three") == second
        assert_nothing_left(rig)


@pytest.mark.soak
def test_what_a_snapshot_costs(rig: Rig) -> None:
    """The id is one write of 4 KiB, so one chunk; all else that fills it is written by the live file system."""
    with tidy():
        volume = rig.volume("data", fs="btrfs", mib=128)
        change("lvcreate", volume.full_name, "-s", "-n", "copy", "-L", "16m", "-c", "4k")

        def used() -> int:
            (row,) = [
                line.split()
                for line in run("dmsetup", "status").out.splitlines()
                if "data" in line or "copy" in line
                if " snapshot " in line
            ]
            return int(row[4].split("/")[0]) * 512

        snapshot, before = as_planned(volume), used()
        old = btrfs_superblock.read(volume.device)
        btrfs_snapshot.give_own_id(snapshot)
        btrfs_snapshot.give_own_id(snapshot)  # which it has
        assert used() - before in (4096, 8192)  # the first chunk of a snapshot takes one more, for its list
        assert btrfs_superblock.read(volume.device) == old
        said = run("btrfs", "inspect-internal", "dump-super", snapshot.device).out
        assert "[DON'T MATCH]" not in said
        assert "[match]" in said
        change("lvremove", f"{volume.group.name}/copy")


@pytest.mark.soak
def test_luks(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", luks_version=1, fs="btrfs", at=rig.path("data"))
        at = cast(Path, volume.at)
        create(at / "inner")
        gate = Gate(rig.directory, "command")
        live = Run("run", "--path", at, "--", "sh", "-c", f"{gate.shell}; cat {at}/inner/file")
        gate.reached(process=live.process)
        (at / "inner" / "file").write_text("new")
        gate.open()
        assert live.end().out == "old inner"
        assert safe_open.device_behind(str(at)) == os.stat(volume.top).st_rdev
        assert_nothing_left(rig)
