"""States of a group's disks in which a snapshot can, or cannot, be made."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.rig import Rig, disks
from tests.rig.names import is_ours
from tests.rig.tools import change
from tests.rig.volumes import Group
from tests.system.support.runs.live import wait_for
from tests.system.support.runs.program import run
from tests.system.support.states.building import data, group_of

LOOP_SET_BLOCK_SIZE = 0x4C09  # linux/loop.h
SLOW = Path("/sys/module/dm_mirror/parameters/raid1_resync_throttle")
"""Per cent of the time in which a mirror may be filled."""


@contextmanager
def wiped(device: str) -> Iterator[None]:
    """Have LVM not know a disk."""
    with open(device, "r+b") as disk:
        kept = disk.read(1 << 20)
        disk.seek(0)
        disk.write(bytes(1 << 20))
        os.fsync(disk)
    try:
        yield
    finally:
        with open(device, "r+b") as disk:
            disk.write(kept)
            os.fsync(disk)


def missing_disk(rig: Rig, stack: ExitStack) -> Path:
    group = rig.group(disks=2)
    at = data(rig, group=group)
    stack.enter_context(wiped(group.disks[1]))
    return at


def partial_raid(rig: Rig, stack: ExitStack) -> Path:
    group = rig.group(disks=2)
    at = data(rig, group=group, kind="raid1")
    stack.enter_context(wiped(group.disks[1]))
    return at


def failed_leg(rig: Rig, stack: ExitStack) -> Path:
    """A disk of a RAID that has failed, and is there again: `lvs` says that a refresh is needed."""
    group = rig.group(disks=2)
    at = data(rig, group=group, kind="raid1")
    leg = f"{group.name}-data_rimage_1"
    table = run("dmsetup", "table", leg).out.strip()
    for text in (f"0 {table.split()[1]} error", table):
        run("dmsetup", "suspend", leg)
        run("dmsetup", "load", leg, stdin=f"{text}\n")
        run("dmsetup", "resume", leg)
        (at / "written").write_bytes(bytes(1 << 20))
        os.sync()
    return at


def seen_twice(rig: Rig, stack: ExitStack) -> Path:
    group = rig.group()
    at = data(rig, group=group)
    backing = Path(f"/sys/block/{Path(group.disks[0]).name}/loop/backing_file").read_text().strip()
    clone = disks.attached(Path(backing))
    stack.callback(run, "losetup", "--detach", clone)
    rig._remember()
    return at


def full_area(rig: Rig, stack: ExitStack) -> Path:
    """A group whose description LVM cannot make any longer."""
    at, group = data(rig), group_of(rig)
    numbers = itertools.count()

    def added(count: int, length: int) -> bool:
        tags = [f"{next(numbers):05}".ljust(length, "x") for _ in range(count)]
        words = (word for tag in tags for word in ("--addtag", tag))
        return run("vgchange", "-q", *words, group, status=None).status == 0

    shown = ("vgs", "--noheadings", "--units", "b", "--nosuffix", "-o", "vg_mda_free", group)
    while (free := int(run(*shown).out)) > 4000:
        assert added(min(40, free // 1010 - 2), 1000)
    for length in (1000, 250, 60):
        while added(1, length):
            pass
    return at


def namesake(rig: Rig, stack: ExitStack) -> Path:
    """Another group of the same name."""
    group, plug_in = with_namesake(rig)
    at = data(rig, group=group)
    stack.callback(plug_in, b"")
    plug_in()
    return at


def with_namesake(rig: Rig) -> tuple[Group, Callable[..., None]]:
    """Make a group, and another one of its name on a disk that is empty until it is plugged in; `b""` unplugs it."""
    group, other = rig.group(), rig.disk(64)
    with wiped(group.disks[0]):
        run("vgcreate", "-q", "-s", "1m", group.name, other)
        with open(other, "rb") as disk:
            kept = disk.read(1 << 20)
        overwrite(other, b"")

    def plug_in(content: bytes = kept) -> None:
        overwrite(other, content)
        run("pvscan", "--cache", other)

    return group, plug_in


def overwrite(device: str, content: bytes) -> None:
    """Have a disk begin with this, and with zeros after it."""
    with open(device, "r+b") as disk:
        disk.write(content.ljust(1 << 20, b"\0"))
        os.fsync(disk)


def closed_disk(rig: Rig, stack: ExitStack) -> Path:
    group = rig.group(mib=40)
    at = data(rig, group=group)
    disk = rig.disk(800)
    run("vgextend", "-q", group.name, disk)
    run("pvchange", "-q", "--allocatable", "n", disk)
    return at


def larger_blocks(rig: Rig, stack: ExitStack, mib: int = 40) -> Path:
    """A volume on a disk of so many MiB; its group has a larger one, with larger logical blocks.

    A snapshot whose space is there has such blocks as well, and the file system (with blocks of 1 KiB) has not.
    """
    group = rig.group(mib=mib)
    at, disk = data(rig, group=group), rig.disk(800)
    with open(disk, "rb") as loop:
        fcntl.ioctl(loop, LOOP_SET_BLOCK_SIZE, 4096)
    run("vgextend", "-q", "--config", "devices/allow_mixed_block_sizes=1", group.name, disk)
    return at


def room_in_pieces(rig: Rig, stack: ExitStack) -> Path:
    """The same with enough room on the first disk, but in two pieces: LVM would take the one on the other."""
    at = larger_blocks(rig, stack, 96)
    (group,) = {name for name in run("vgs", "--noheadings", "-o", "vg_name").out.split() if is_ours(name)}
    disk = run("vgs", "--noheadings", "-o", "pv_name", "--sort", "pv_size", group).out.split()[0]
    for name, size in (("gap", "27m"), ("part", "4m")):
        run("lvcreate", "-q", "-y", "-n", name, "-L", size, group, disk)
    change("lvremove", f"{group}/gap")
    rig._remember()
    return at


def moved(rig: Rig, stack: ExitStack) -> Path:
    """A volume under pvmove, which is not done when it looks first, and looks again long after the test."""
    group = rig.group(disks=2)
    volume = rig.volume("data", fs="ext4", mib=256, at=rig.path("data"), group=group)
    assert volume.at
    run("modprobe", "dm_mirror")
    SLOW.write_text("1")
    stack.callback(SLOW.write_text, "100")
    argv = ["pvmove", "--interval", "250", "--name", "data", *group.disks]
    moving = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stack.callback(moving.wait)
    stack.callback(moving.kill)
    stack.callback(run, "pvmove", "--abort", status=None)
    wait_for(lambda: "pvmove0" in run("dmsetup", "ls").out, "pvmove")
    rig._remember()
    return volume.at


def contiguous(rig: Rig, stack: ExitStack) -> Path:
    """A group whose free space is in pieces, while its policy wants it in one."""
    group = rig.group(mib=64)
    at = data(rig, group=group)
    for number in range(4):
        change("lvcreate", group.name, "-n", f"part{number}", "-L", "4m")
    change("lvcreate", group.name, "-n", "rest", "-l", "100%FREE")
    for number in (0, 2):
        change("lvremove", f"{group.name}/part{number}")
    change("lvremove", f"{group.name}/rest")
    change("lvcreate", group.name, "-n", "rest", "-L", "4m")
    run("vgchange", "-q", "--alloc", "contiguous", group.name)
    free = int(float(run("vgs", "--noheadings", "--nosuffix", "--units", "m", "-o", "vg_free", group.name).out))
    change("lvcreate", group.name, "-n", "more", "-L", f"{free - 16}m")
    rig._remember()
    return at
