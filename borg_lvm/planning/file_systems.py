"""Which file systems can be read from a snapshot, and how it is mounted to show what they themselves show. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from borg_lvm.machine.btrfs_subvolumes import DIRECTORY, GATHERING
from borg_lvm.machine.lvm import Volume
from borg_lvm.machine.mounts import BTRFS, ZFS, Mount
from borg_lvm.machine.zfs_datasets import WORKING, run_of

if TYPE_CHECKING:
    from borg_lvm.machine.btrfs_devices import BtrfsDevices
    from borg_lvm.machine.btrfs_subvolumes import Subvolume, Tree
    from borg_lvm.machine.zfs_datasets import Dataset

FREEZABLE = frozenset(("btrfs", "ext2", "ext3", "ext4", "xfs"))
_NETWORK = frozenset("nfs nfs4 cifs smb3 9p ceph glusterfs afs fuse.sshfs fuse.rclone virtiofs".split())

_REASONS = {
    **{name: f"it lies in memory ({name}), not on a logical volume" for name in ("tmpfs", "ramfs")},
    **{name: f"it lies on a network file system ({name})" for name in _NETWORK},
}

_XFS_QUOTA = frozenset(
    "uquota usrquota quota uqnoenforce qnoenforce gquota grpquota gqnoenforce pquota prjquota pqnoenforce".split()
)
_EXT = frozenset(("noacl", "nouser_xattr"))
"""Of kernels before 5.18."""
_LABELS = re.compile(r"""(?:^|,)((?:fs|def|root)?context=(?:"[^"]*"|[^,]*))""")
"""SELinux' labels for a whole file system. Source: mount(8)."""
_FLAGS = ("noexec", "nosymfollow")
HELD_UP = (
    "wait for its end (`btrfs scrub status`, `btrfs balance status`), or stop it: `btrfs scrub cancel` goes on later "
    "with `resume`, `btrfs balance pause` as well"
)
"""What to do about what would hold up a freeze."""


def mount_options(mount: Mount, *, read_only_device: bool = False, lone: bool = False) -> str:
    """Return the data of mount(2) for the snapshot: it must show what the mounted file system shows.

    ext2, ext3 and ext4: the option for access lists, and `errors=continue`. A file system may have `errors=panic`
    written into it (tune2fs -e), and one read that fails in a lost snapshot would stop the machine.

    `lone`: its journal is on another device. A frozen file system has nothing in it (the view sees to that), and the
    kernel would not find it: `noload` does without. So do those that were mounted without theirs, whatever is in it:
    the snapshot of a device that nobody may write to could not be mounted otherwise. `sb=` names the superblock that is
    read where the first one is damaged.

    btrfs is mounted whole, so that a path in it is what the table of mounts calls the root of a mount, whichever
    subvolume that was made by. What was mounted with a `rescue=` may not be readable without.

    xfs refuses a second file system with the same id (`nouuid`), and forgets its quota when mounted without the
    options that it was mounted with. A frozen xfs leaves its log such that a mount looks through it for files that
    were deleted while open, which needs a writable device: above LUKS, where ours is not, `norecovery` leaves that
    out; all else is in place, because the freeze has emptied the log.
    """
    given = mount.super_options.split(",")
    labels = _LABELS.findall(mount.super_options)
    if mount.fstype == "xfs":
        recovery = ["norecovery"] if read_only_device or "norecovery" in given else []
        return ",".join(["nouuid", *recovery, *(option for option in given if option in _XFS_QUOTA), *labels])
    if mount.fstype == BTRFS:
        kept = [option for option in given if option in _EXT or option.startswith("rescue=")]
        return ",".join(["subvolid=5", *kept, *labels])
    loaded = ["noload"] if lone or "norecovery" in given else []  # ext4 calls its `noload` so in the table
    kept = [option for option in given if option in _EXT or option.startswith("sb=")]
    return ",".join(["errors=continue", *loaded, *kept, *labels])


def options_apart(mount: Mount, path: str) -> str:
    """Return the data of mount(2) for a snapshot of a subvolume, which lies at a path of the btrfs, or of a dataset.

    All but labels is the file system's, once.
    """
    where = [f"subvol={path}"] if mount.fstype == BTRFS else []
    return ",".join([*where, *_LABELS.findall(mount.super_options)])


def mount_flags(mount: Mount) -> tuple[str, ...]:
    """Return what of the mount's own options its snapshot gets as well; each is read-only, `nosuid` and `nodev`."""
    return tuple(word for word in _FLAGS if word in mount.options.split(","))


def shown_otherwise(mount: Mount) -> str:
    """Return why a snapshot would show something else than a mount does, in one clause; empty if it would not."""
    if "idmapped" in mount.options.split(","):
        return "it is an idmapped mount, and the snapshot would show other owners; name the mount that it was made of"
    return ""


def not_a_disk(mount: Mount) -> str:
    """Return why a mount lies on no block device of its own, in one clause; empty if it may."""
    if mount.root.endswith("//deleted"):
        return "it is a bind mount of a directory that has been deleted; unmount it"
    if mount.fstype == "overlay":
        return (
            f"it lies on the overlay mounted at {mount.path}; name the directories that the overlay is made of instead"
        )
    if mount.fstype in _REASONS:
        return _REASONS[mount.fstype]
    if mount.is_trigger:
        return "it is an automount, and nothing could be mounted there (see its unit, or the log of automount)"
    if mount.fstype == BTRFS and mount.device.startswith("0:"):
        return "it is a btrfs, and the kernel does not show in /sys/fs/btrfs which device it lies on"
    is_none = mount.device.startswith("0:") and mount.fstype != ZFS
    return f"it lies on {mount.fstype}, which has no block device" if is_none else ""


def held_up(path: str, why: str, then: str) -> str:
    """Say what a freeze of a btrfs would have to wait for, and what follows from that."""
    return f"{path}: {why} of its btrfs is under way, for which a freeze and all writers would wait; {then}"


def of_btrfs(known: BtrfsDevices | None) -> str:
    """Return why a snapshot of its volume would not hold all of a btrfs, or not be one, in a clause; else nothing."""
    block = known.superblock if known else None
    if known and (len(known.devices) > 1 or (block and block.devices != 1)):
        return (
            f"it is a btrfs of several devices ({', '.join(known.devices)}), which the kernel puts together by their "
            "ids, and those of snapshots are the same; use btrfs snapshots for it"
        )
    reasons = {
        "whose superblock cannot be read on its device": block is None,
        "that is a seed device, or lies on one": block and block.seed,
        "on a zoned device": block and block.zoned,
        "whose ids or trees are being changed (btrfstune), or were not changed to the end": block and block.changing,
        "with a kind of checksum that borg-lvm cannot make": block and not block.is_writable,
    }
    reason = next((reason for reason, is_so in reasons.items() if is_so), "")
    return f"it is a btrfs {reason}; use btrfs snapshots for it" if reason else ""


def of_subvolume(mount: Mount, subvolume: Subvolume, tree: Tree) -> str:
    """Return why a subvolume cannot have a snapshot of its own, and what to do, in a clause; else nothing."""
    name = subvolume.full_name
    if "ro" in mount.super_options.split(","):
        return (
            f"the btrfs of {name} is mounted read-only, and no snapshot can be made in it; to make it writable: "
            "mount -o remount,rw"
        )
    if subvolume.path.startswith(f"/{DIRECTORY}/"):
        return f"it is {name}, a snapshot that a run has made; back up the original instead"
    if tree.is_seeded:
        return (
            f"the btrfs of {name} has a seed device, which is a file system of its own as well; to move the data from "
            "it: btrfs device remove DEVICE PATH"
        )
    if subvolume.number in tree.swapped:
        return (
            f"a swap file is in use in {name}, and the kernel makes no snapshot of such a subvolume; move the swap "
            "file into a subvolume of its own (btrfs subvolume create), or: swapoff"
        )
    return ""


def nested(path: str, target: str, then: str) -> str:
    """Say of a subvolume below a source that the snapshot has none of it, and what to do."""
    return (
        f"{path}: it is a btrfs subvolume of its own, and not in the snapshot of the one around it ({target}); have "
        f"the command leave it out, and back it up in a run of its own; {then}"
    )


def of_dataset(mount: Mount, dataset: Dataset | None) -> str:
    """Return why a dataset of ZFS cannot have a snapshot, and what to do, in a clause; else nothing."""
    if "@" in mount.source:
        if run_of(mount.source):
            return f"it is {mount.source}, a snapshot that a run has made; back up the original instead"
        return f"it is {mount.source}, a snapshot already, which nobody changes"
    if dataset is None:
        return f"it is the dataset {mount.source}, of which zfs list and zpool list say nothing"
    if dataset.state not in WORKING:
        return f"the pool {dataset.pool} is {dataset.state}, and does not answer; see: zpool status {dataset.pool}"
    if dataset.read_only:
        return (
            f"the pool {dataset.pool} is imported read-only, and no snapshot can be made in it; to make it writable: "
            f"zpool export {dataset.pool}, then zpool import {dataset.pool}"
        )
    return ""


def two_apart(volumes: Sequence[Subvolume | Dataset]) -> str:
    """Say that what cannot be held is not all snapshotted in one step, and what to do."""
    names = ", ".join(volume.full_name for volume in volumes)
    if {volume.kind for volume in volumes} == {"subvolume"}:
        what = (
            f"{names}: these subvolumes cannot be suspended, and only those of one btrfs are snapshotted in one "
            f"transaction, on Linux {'.'.join(map(str, GATHERING))} or newer"
        )
    else:
        what = f"{names}: these cannot be suspended, and only datasets of one pool of ZFS are snapshotted in one step"
    return f"{what}; back them up in runs of their own, or give up the one instant: --consistency per-volume"


def refusal(mount: Mount, volume: Volume) -> str:
    """Return why a file system would not be whole in a snapshot of its volume, in one clause; empty if it would."""
    parts = dict(option.split("=", 1) for option in mount.super_options.split(",") if "=" in option)
    for option, what in (("logdev", "log"), ("rtdev", "real-time data")):
        if mount.fstype == "xfs" and option in parts:
            return (
                f"it is an xfs on {volume.full_name} with its {what} on another device ({parts[option]}), which a "
                "snapshot of the one does not hold"
            )
    if mount.fstype in FREEZABLE:
        return ""
    known = ", ".join(sorted(FREEZABLE))
    return f"it is a {mount.fstype} on {volume.full_name}; only {known} are known to be whole in a snapshot"
