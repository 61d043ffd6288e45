"""States of LVM and of file systems in which a snapshot can, or cannot, be made; each is built with real programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.rig import Rig, volumes
from tests.rig.tools import change
from tests.system.support.runs.live import crypttab, installed
from tests.system.support.runs.program import run
from tests.system.support.states.building import FILE, State, configured, data, group_of, made, mounted
from tests.system.support.states.disk_states import (
    closed_disk,
    contiguous,
    failed_leg,
    full_area,
    larger_blocks,
    missing_disk,
    moved,
    namesake,
    partial_raid,
    room_in_pieces,
    seen_twice,
)
from tests.system.support.states.pool_states import above_profile, above_threshold, full_pool, little_metadata, vdo


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


def most_volumes(rig: Rig, stack: ExitStack) -> Path:
    at = data(rig)
    run("vgchange", "-q", "--logicalvolume", "1", group_of(rig))
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
    State("full-area", full_area, ("left in its metadata area", "pvcreate --metadatasize")),
    State("contiguous", contiguous),
    State("exported", exported, ("is exported", "vgimport")),
    State("read-only-group", read_only_group, ("is read-only by its metadata",)),
    State("foreign", foreign, ("belongs to the host 'elsewhere'",)),
    State("above-threshold", above_threshold, ("thin_pool_autoextend_threshold (60 %)", "extend the pool first")),
    State("above-profile", above_profile, ("thin_pool_autoextend_threshold (60 %)",)),
    State("little-metadata", little_metadata, ("% of its metadata", "less than 25 % of its metadata free")),
    State("full-pool", full_pool, ("has no room for data left",)),
    State("vdo", vdo, ("is stored by VDO",)),
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
