"""What the command reads of the snapshots pushes no other pages out of the page cache. Counts of pages, no times."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Kind, Rig
from tests.system.support.runs.live import assert_nothing_left, end_dmeventd, tidy
from tests.system.support.runs.program import borg_lvm
from tests.system.support.writers.counted import MIB

MEMORY = 160 * MIB  # for us and all that we start: a third of it is the programs' own
HOT = 24 * MIB
COLD = 3 * MEMORY
GROUPS = Path("/sys/fs/cgroup")
TAR = ("tar", "--totals", "-b", "2048", "-cf", "/dev/zero")  # of /dev/null it knows that nobody wants anything
SLOWLY = ("--checkpoint=16", "--checkpoint-action=exec=sleep 0.05")  # holes are read as fast as memory is, no disk is
PARTS = 400  # files into which what is read is split where it is many


@pytest.fixture(autouse=True)
def little_memory(rig: Rig) -> Iterator[None]:
    """Be on a machine with little memory: a group of processes whose pages are pushed out among themselves.

    It goes before the rig, whose programs are not among them.
    """
    (GROUPS / "cgroup.subtree_control").write_text("+memory")
    group = GROUPS / "little"
    group.mkdir()
    (group / "memory.max").write_text(str(MEMORY))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
        assert "oom_kill 0" in (group / "memory.events").read_text()
    finally:
        end_dmeventd()
        for pid in (group / "cgroup.procs").read_text().split():
            (GROUPS / "cgroup.procs").write_text(pid)
        group.rmdir()


def cached(path: Path) -> int:
    """Return how many bytes of a file are in the page cache (mincore(2))."""
    count = path.stat().st_size // mmap.PAGESIZE
    pages = (ctypes.c_ubyte * count)()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        start = (ctypes.c_char * len(mapped)).from_buffer(mapped)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.byref(start), ctypes.c_size_t(len(mapped)), pages) == 0, ctypes.get_errno()
        del start
    return sum(page & 1 for page in pages) * mmap.PAGESIZE


def kept(hot: Path, *, stay: bool) -> bool:
    """Whether the file is still in the page cache, or is not any more: whichever it must be."""
    share = cached(hot) / HOT
    print(f"{share:.0%} of its pages are left")
    return share >= 0.9 if stay else share <= 0.1


def hot_file(at: Path) -> Path:
    """Make a file that has been read once, as most of what is in a page cache: all of it is there."""
    hot = at / "hot"
    hot.write_bytes(os.urandom(HOT))
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    assert cached(hot) == 0
    assert len(hot.read_bytes()) == HOT
    assert cached(hot) == HOT
    return hot


def cold_files(at: Path, parts: int = 1) -> Path:
    """Make what the backup reads, three times the memory: of holes, whose pages are pages as all others."""
    directory = at / "cold"
    directory.mkdir()
    for number in range(parts):
        with (directory / str(number)).open("wb") as file:
            file.truncate(COLD // parts)
    return directory


def options(rig: Rig, page_cache: str) -> list[str | Path]:
    """Return the options of a run with this setting."""
    rig.path("config.yaml").write_text(f"snapshot: {{page_cache: {page_cache}}}\n")
    return ["--config", rig.path("config.yaml")]


@pytest.mark.parametrize(("page_cache", "stay"), [("auto", True), ("keep", False)])
def test_pages_of_others_stay_unless_it_is_switched_off(rig: Rig, page_cache: str, *, stay: bool) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        assert volume.at
        hot, directory = hot_file(volume.at), cold_files(volume.at)
        said = borg_lvm("run", *options(rig, page_cache), "--", *TAR, *SLOWLY, directory)
        assert int(said.err.partition("Total bytes written: ")[2].split()[0]) >= COLD
        assert kept(hot, stay=stay)
        assert_nothing_left(rig)


def read_all(directory: Path) -> str:
    """Return the script that reads all files below a directory."""
    return f"find {directory} -type f -exec cat {{}} + >/dev/null"


@pytest.mark.soak
@pytest.mark.parametrize(("page_cache", "stay"), [("drop", True), ("auto", False)])
def test_a_script_may_read_twice(rig: Rig, page_cache: str, *, stay: bool) -> None:
    """What it reads is dropped only if it is asked for."""
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        assert volume.at
        hot, directory = hot_file(volume.at), cold_files(volume.at, PARTS)
        borg_lvm("run", *options(rig, page_cache), "--path", directory, "--", "sh", "-c", read_all(directory))
        assert kept(hot, stay=stay)
        assert_nothing_left(rig)


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "fs"), [("thin", "xfs"), ("raid1", "ext4")])
@pytest.mark.parametrize(("page_cache", "stay"), [("drop", True), ("keep", False)])
def test_every_kind_of_snapshot(rig: Rig, kind: Kind, fs: str, page_cache: str, *, stay: bool) -> None:
    """What is pushed out, or is not, are the pages of another volume."""
    with tidy():
        group = rig.group(disks=2, mib=1024)
        volume = rig.volume("data", kind=kind, fs=fs, mib=COLD // MIB, group=group, at=rig.path("data"))
        other = rig.volume("other", fs="ext4", mib=64, at=rig.path("other"))
        assert volume.at
        assert other.at
        hot, directory = hot_file(other.at), cold_files(volume.at, PARTS)
        borg_lvm("run", *options(rig, page_cache), "--path", directory, "--", "sh", "-c", read_all(directory))
        assert kept(hot, stay=stay)
        assert_nothing_left(rig)


@pytest.mark.soak
@pytest.mark.parametrize(("page_cache", "stay"), [("drop", True), ("auto", False)])
def test_a_view_between_two_calls(rig: Rig, page_cache: str, *, stay: bool) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        assert volume.at
        hot, directory = hot_file(volume.at), cold_files(volume.at)
        borg_lvm("begin", "night", *options(rig, page_cache), "--path", directory)
        shown = Path("/run/borg-lvm/view/night", str(directory).lstrip("/"), "0")
        with shown.open("rb", buffering=0) as file:
            while file.read(MIB):
                pass
        assert kept(hot, stay=stay)
        borg_lvm("end", "night")
        assert_nothing_left(rig)
