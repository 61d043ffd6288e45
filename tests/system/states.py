"""States of LVM and of file systems in which a snapshot can, or cannot, be made; each is built with real programs."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.rig import Rig, disks, volumes
from tests.rig.names import is_ours
from tests.rig.tools import change
from tests.rig.volumes import Group
from tests.system.live import crypttab, installed, wait_for
from tests.system.program import run

FILE = "file"
LOOP_SET_BLOCK_SIZE = 0x4C09  # linux/loop.h
SLOW = Path("/sys/module/dm_mirror/parameters/raid1_resync_throttle")
"""Per cent of the time in which a mirror may be filled."""


@dataclass(frozen=True)
class State:
    """A state and how it is built; `words` are in the refusal, which has this `status`; without them a run works."""

    name: str
    build: Callable[[Rig, ExitStack], Path]
    words: tuple[str, ...] = ()
    status: int = 69


def configured(text: str) -> None:
    """Have LVM's configuration say something more."""
    path = Path(os.environ["LVM_SYSTEM_DIR"], "lvmlocal.conf")
    if text:
        path.write_text(f"{text}\n")
    else:
        path.unlink(missing_ok=True)


def mounted(rig: Rig, stack: ExitStack, device: str, *options: str) -> Path:
    """Mount a device."""
    at = rig.path("data")
    at.mkdir()
    run("mount", *options, device, at)
    stack.callback(run, "umount", at)
    rig._remember()
    return at


def group_of(rig: Rig) -> str:
    """Return the name of the group of which the rig makes its volumes."""
    assert rig._group
    return rig._group.name


def data(rig: Rig, **wanted: object) -> Path:
    """Make a volume with an ext4 on it, and return where that is mounted."""
    volume = rig.volume("data", fs="ext4", mib=32, at=rig.path("data"), **wanted)  # type: ignore[arg-type]
    assert volume.at
    return volume.at


def made(rig: Rig, stack: ExitStack, device: str, *options: str, mkfs: tuple[str, ...] = ("mkfs.ext4", "-q")) -> Path:
    """Make a file system on a device and mount it."""
    run(*mkfs, device)
    return mounted(rig, stack, device, *options)


def no_module(rig: Rig, stack: ExitStack) -> Path:
    """The package of the kernel was upgraded, and the machine was not booted since."""
    at, empty = data(rig), rig.path("modules")
    run("modprobe", "--remove", "dm_snapshot", status=None)
    empty.mkdir()
    run("mount", "--bind", empty, "/lib/modules")
    stack.callback(run, "umount", "/lib/modules")
    rig._remember()
    return at


def sysctl(name: str, value: str) -> Callable[[Rig, ExitStack], Path]:
    """Return what makes a volume on a machine whose kernel was told this."""

    def build(rig: Rig, stack: ExitStack) -> Path:
        at, switch = data(rig), Path("/proc/sys", name)
        stack.callback(switch.write_text, switch.read_text())
        switch.write_text(value)
        return at

    return build


def external_journal(rig: Rig, stack: ExitStack) -> Path:
    volume, journal = rig.volume("data", mib=32), rig.volume("journal", mib=16)
    run("mkfs.ext4", "-q", "-b", "4096", "-O", "journal_dev", journal.device)
    mkfs = ("mkfs.ext4", "-q", "-b", "4096", "-J", f"device={journal.device}")
    return made(rig, stack, volume.device, mkfs=mkfs)


def external_journal_luks(rig: Rig, stack: ExitStack) -> Path:
    volume, journal = rig.volume("data", mib=64, luks_version=1), rig.volume("journal", mib=16)
    run("mkfs.ext4", "-q", "-b", "4096", "-O", "journal_dev", journal.device)
    mkfs = ("mkfs.ext4", "-q", "-b", "4096", "-J", f"device={journal.device}")
    return made(rig, stack, volume.top, mkfs=mkfs)


def detached_header(rig: Rig, stack: ExitStack, option: str = ",header={header}") -> Path:
    """LUKS2 with its header in a file."""
    volume, header = rig.volume("data", mib=32), rig.path("header")
    key = Path("/run") / f"{volume.group.name}.key"  # what lies below /dev counts as a device
    key.write_bytes(os.urandom(32))
    stack.callback(key.unlink)
    key.chmod(0o400)
    header.write_bytes(bytes(16 << 20))
    name = f"{volume.group.name}-detached"
    weak = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    run("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", *weak, "--header", header, volume.device, key)
    run("cryptsetup", "open", "--header", header, "--key-file", key, volume.device, name)
    stack.callback(run, "cryptsetup", "close", name)
    stack.enter_context(crypttab(rig, f"{name} {volume.device} {key} luks{option.format(header=header)}"))
    return made(rig, stack, f"/dev/mapper/{name}")


def unnamed_header(rig: Rig, stack: ExitStack) -> Path:
    return detached_header(rig, stack, "")


def second_superblock(rig: Rig, stack: ExitStack) -> Path:
    volume = rig.volume("data", mib=64)
    run("mkfs.ext4", "-q", "-b", "1024", "-g", "8192", volume.device)
    with open(volume.device, "r+b") as device:
        device.seek(1024)
        device.write(bytes(1024))
    return mounted(rig, stack, volume.device, "-t", "ext4", "-o", "sb=8193")


def journal_not_loaded(rig: Rig, stack: ExitStack) -> Path:
    """Nobody may write to the device, so what is in its journal cannot be put where it belongs."""
    volume = rig.volume("data", fs="ext4", mib=32)
    at = rig.path("before")
    at.mkdir()
    run("mount", volume.device, at)
    (at / FILE).write_text("old")
    os.sync()
    image = Path(volume.device).read_bytes()
    run("umount", at)
    with open(volume.device, "r+b") as device:
        device.write(image)
        os.fsync(device)
    run("lvchange", "-q", "--permission", "r", volume.full_name)
    return mounted(rig, stack, volume.device, "-o", "ro,noload")


def xfs_log(rig: Rig, stack: ExitStack) -> Path:
    volume, log = rig.volume("data", mib=320), rig.volume("log", mib=80)
    mkfs = ("mkfs.xfs", "-q", "-l", f"logdev={log.device}")
    return made(rig, stack, volume.device, "-o", f"logdev={log.device}", mkfs=mkfs)


def xfs_real_time(rig: Rig, stack: ExitStack) -> Path:
    volume, part = rig.volume("data", mib=320), rig.volume("part", mib=80)
    mkfs = ("mkfs.xfs", "-q", "-m", "reflink=0,rmapbt=0", "-r", f"rtdev={part.device}")
    return made(rig, stack, volume.device, "-o", f"rtdev={part.device}", mkfs=mkfs)


def of_type(*options: str, disks: int = 2) -> Callable[[Rig, ExitStack], Path]:
    def build(rig: Rig, stack: ExitStack) -> Path:
        group = rig.group(disks=disks)
        change("lvcreate", group.name, "-n", "data", "-L", "32m", *options)
        return made(rig, stack, f"/dev/{group.name}/data")

    return build


def writecache(rig: Rig, stack: ExitStack) -> Path:
    volume = rig.volume("data", fs="ext4", mib=32)
    change("lvcreate", volume.group.name, "-n", "fast", "-L", "16m", "--activate", "n", "--zero", "n")
    change("lvconvert", volume.full_name, "--type", "writecache", "--cachevol", "fast")
    return mounted(rig, stack, volume.device)


def external_origin(rig: Rig, stack: ExitStack) -> Path:
    """A thin volume whose content was never written to it."""
    group = rig.group(disks=2)
    base, before = rig.volume("base", fs="ext4", mib=32, group=group), rig.path("before")
    before.mkdir()
    run("mount", base.device, before)
    (before / FILE).write_text("old")
    run("umount", before)
    volumes.thin_pool(group, 32)
    run("lvchange", "-q", "--activate", "n", base.full_name)
    run("lvchange", "-q", "--permission", "r", base.full_name)
    run("lvcreate", "-q", "-y", "-s", base.full_name, "--thinpool", "pool", "-n", "data")
    return mounted(rig, stack, f"/dev/{group.name}/data", "-o", "ro,noload")


def read_only(rig: Rig, stack: ExitStack) -> Path:
    volume = rig.volume("data", fs="ext4", mib=32)
    run("lvchange", "-q", "--permission", "r", volume.full_name)
    return mounted(rig, stack, volume.device, "-o", "ro")


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


def most_volumes(rig: Rig, stack: ExitStack) -> Path:
    at = data(rig)
    run("vgchange", "-q", "--logicalvolume", "1", group_of(rig))
    return at


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


def metadata_with(rig: Rig, stack: ExitStack, old: str, new: str) -> Path:
    """Make a volume, and change something in the metadata of its group, as LVM itself does not while it is in use."""
    at, group, kept, file = data(rig), group_of(rig), rig.path("kept"), rig.path("changed")
    run("vgcfgbackup", "-q", "--file", kept, group)
    text = kept.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    back = ["vgcfgrestore", "-q", "--yes", "--force", "--file"]
    run(*back, file, group)
    own = 'local{extra_system_ids=["elsewhere"]}'
    stack.callback(run, *back, kept, group, "--config", own)
    return at


def exported(rig: Rig, stack: ExitStack) -> Path:
    return metadata_with(rig, stack, '"RESIZEABLE"', '"RESIZEABLE", "EXPORTED"')


def read_only_group(rig: Rig, stack: ExitStack) -> Path:
    return metadata_with(rig, stack, ', "WRITE"', "")


def foreign(rig: Rig, stack: ExitStack) -> Path:
    return metadata_with(rig, stack, 'status = ["RESIZEABLE"', 'system_id = "elsewhere"\nstatus = ["RESIZEABLE"')


def filled(rig: Rig, mib: int) -> Path:
    """Make a thin volume in a pool of which so much is used (of 64 MiB)."""
    at = data(rig, kind="thin")
    other = rig.volume("other", kind="thin", mib=64)
    run("dd", "if=/dev/zero", f"of={other.device}", "bs=1M", f"count={mib}", "conv=fsync")
    return at


def above_threshold(rig: Rig, stack: ExitStack) -> Path:
    at = filled(rig, 45)
    configured("activation { thin_pool_autoextend_threshold = 60 }")
    return at


def above_profile(rig: Rig, stack: ExitStack) -> Path:
    at = filled(rig, 45)
    profiles = Path(os.environ["LVM_SYSTEM_DIR"], "profile")
    profiles.mkdir()
    (profiles / "early.profile").write_text("activation { thin_pool_autoextend_threshold = 60 }\n")
    run("lvchange", "-q", "--metadataprofile", "early", f"{group_of(rig)}/pool")
    return at


def little_metadata(rig: Rig, stack: ExitStack) -> Path:
    """A pool with little metadata, of which LVM wants a quarter free; each thin device takes a block."""
    group = rig.group(disks=2)
    argv = ["--type", "thin-pool", "-n", "pool", "-L", "64m", "--poolmetadatasize", "2m", "-c", "64k", "-Zn"]
    change("lvcreate", group.name, *argv)
    at = data(rig, group=group, kind="thin")
    made = f'for n in $(seq 1001 1400); do dmsetup message {group.name}-pool-tpool 0 "create_thin $n" || exit; done'
    run("sh", "-c", made)
    return at


def full_pool(rig: Rig, stack: ExitStack) -> Path:
    at = data(rig, kind="thin")
    other = rig.volume("other", kind="thin", mib=128)
    run("lvchange", "-q", "--errorwhenfull", "y", f"{group_of(rig)}/pool")
    with suppress(OSError), open(other.device, "wb", buffering=0) as device:
        for _ in range(128):
            device.write(bytes(1 << 20))
            os.fsync(device)
    return at


def setting(text: str) -> Callable[[Rig, ExitStack], Path]:
    """Return what makes a volume on a machine whose lvm.conf says this."""

    def build(rig: Rig, stack: ExitStack) -> Path:
        at = data(rig)
        configured(text)
        return at

    return build


def shrunk_snapshot(rig: Rig, stack: ExitStack) -> Path:
    """Somebody else's snapshot that was made smaller than what it holds, in another group."""
    at, group = data(rig), rig.group().name
    change("lvcreate", group, "-n", "other", "-L", "32m")
    change("lvcreate", f"{group}/other", "-s", "-n", "small", "-L", "32m")
    run("dd", "if=/dev/urandom", f"of=/dev/{group}/other", "bs=1M", "count=20", "conv=fsync")
    change("lvresize", f"{group}/small", "--force", "-L", "16m")
    assert float(run("lvs", "--noheadings", "-o", "data_percent", f"{group}/small").out) > 100
    rig._remember()
    return at


def no_shell(rig: Rig, stack: ExitStack) -> Path:
    """An LVM that was built without readline, as NixOS has it: `lvm` alone only tells how it is used."""
    at, stub = data(rig), rig.path("lvm-stub") / "lvm"
    stub.parent.mkdir()
    refuse = '[ $# = 0 ] && echo "  Please supply an LVM command." >&2 && exit 3'
    stub.write_text(f'#!/bin/sh\n{refuse}\nexec /sbin/lvm "$@"\n')
    stub.chmod(0o755)
    stack.enter_context(installed(stub))
    return at


PLAIN = State("plain", lambda rig, stack: data(rig))
STATES = (
    PLAIN,
    State("shrunk-snapshot", shrunk_snapshot),
    State("no-shell", no_shell),
    State("no-inotify", sysctl("fs/inotify/max_user_instances", "0"), ("raise fs.inotify.max_user_instances",), 71),
    State("few-watches", sysctl("fs/inotify/max_user_watches", "1"), ("raise fs.inotify.max_user_watches",), 71),
    State("no-module", no_module, ("dm_snapshot is not loaded", "are gone", "nothing was done")),
    State("external-journal", external_journal),
    State("external-journal-luks", external_journal_luks),
    State("detached-header", detached_header),
    State("unnamed-header", unnamed_header, ("a detached header", "in /etc/crypttab (`header=`)")),
    State("second-superblock", second_superblock),
    State("journal-not-loaded", journal_not_loaded),
    State("xfs-log", xfs_log, ("its log on another device",)),
    State("xfs-real-time", xfs_real_time, ("its real-time data on another device",)),
    State("integrity", of_type("--type", "raid1", "-m1", "--raidintegrity", "y"), ("RAID with integrity", "lvconvert")),
    State("mirror", of_type("--type", "mirror", "-m1", "--mirrorlog", "core")),
    State("raid5", of_type("--type", "raid5", "-i2", disks=3)),
    State("writecache", writecache),
    State("external-origin", external_origin),
    State("read-only", read_only),
    State("missing-disk", missing_disk, ("misses the physical volume", "vgextend --restoremissing")),
    State("partial-raid", partial_raid, ("misses the physical volume",)),
    State("failed-leg", failed_leg),
    State("seen-twice", seen_twice, ("sees a second time", "/dev/loop")),
    State("namesake", namesake, ("has the name of another volume group", "vgrename")),
    State("closed-disk", closed_disk, ("7.0 MiB free", "799 MiB more are on disks with", "--allocatable n")),
    State("room-in-pieces", room_in_pieces),
    State("larger-blocks", larger_blocks, ("7.0 MiB free", "799 MiB more", "larger logical blocks")),
    State("pvmove", moved, ("is being moved to another disk", "pvmove --abort")),
    State("most-volumes", most_volumes, ("may have 1 volumes", "vgchange --logicalvolume 2")),
    State("contiguous", contiguous),
    State("exported", exported, ("is exported", "vgimport")),
    State("read-only-group", read_only_group, ("is read-only by its metadata",)),
    State("foreign", foreign, ("belongs to the host 'elsewhere'",)),
    State("above-threshold", above_threshold, ("thin_pool_autoextend_threshold (60 %)", "extend the pool first")),
    State("above-profile", above_profile, ("thin_pool_autoextend_threshold (60 %)",)),
    State("little-metadata", little_metadata, ("% of its metadata", "less than 25 % of its metadata free")),
    State("full-pool", full_pool, ("has no room for data left",)),
)
SETTINGS = (
    State(
        "reports",
        setting(
            'report { compact_output = 1 compact_output_cols = "lv_tags,data_percent,pv_missing" prefixes = 1 '
            "quoted = 0 binary_values_as_numeric = 1 columns_as_rows = 1 headings = 0 aligned = 0 buffered = 0 "
            'separator = "," list_item_separator = ";" mark_hidden_devices = 0 two_word_unknown_device = 1 '
            'lvs_sort = "nonsense" pvs_sort = "nonsense" lvs_cols = "lv_name" devtypes_sort = "nonsense" }'
        ),
    ),
    State("other-units", setting('report { output_format = "json" } global { units = "g" suffix = 1 }')),
    State("command-log", setting("log { report_command_log = 1 } metadata { record_lvs_history = 1 }")),
    State("verbose", setting("log { verbose = 3 indent = 0 } tags { hosttags = 1 }")),
    State("silent", setting('log { silent = 1 prefix = ">>" command_names = 1 level = 7 file = "/dev/null" }')),
    State("volume-list", setting('activation { volume_list = [ "other" ] }')),
    State("not-activating", setting("global { activation = 0 }"), ("LVM takes for inactive", "global/activation is 0")),
    State("read-only-list", setting('activation { read_only_volume_list = [ "@borg_lvm", "@*" ] }')),
)
