"""Scratch space of a drill on a new logical volume, out of free extents; removed whatever happens.

It carries the tags of the drill, and one by which it is known for what it is: so `clean` removes it also after a power
cut, when no ledger is left. It is mounted in a namespace of ours, which goes with us.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from borg_lvm.drill.scratch import Scratch, not_removed
from borg_lvm.errors import SourceError
from borg_lvm.linux import subprocesses, syscalls
from borg_lvm.machine import lvm, lvm_groups
from borg_lvm.machine.lvm import RUN_TAG, SCRATCH_TAG, TAG, dm_name, prefix
from borg_lvm.machine.lvm_groups import Group
from borg_lvm.machine.lvm_settings import OURS, SILENT
from borg_lvm.planning.snapshot_size import human
from borg_lvm.state.ledger import Ledger

OVERHEAD = 16
"""One part in so many is taken by the file system itself (inodes, journal), and 32 MiB besides."""
LEAST = 32 << 20
DIRECTORY = "scratch"
MKFS = ("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


def roomiest(groups: Iterable[Group], trusted: Collection[str]) -> tuple[str, int]:
    """Return the volume group with most free bytes of those that may be changed here. Raises: SourceError. Pure.

    `trusted` are the names of groups in which the run had snapshots: LVM shows groups of others, too, on disks that are
    those of virtual machines, or that somebody has plugged in, and what is restored may be secret.
    """
    usable = [group for group in groups if group.name in trusted and _is_usable(group)]
    best = max(((sum(disk.free for disk in group.disks), group.name) for group in usable), default=(0, ""))
    if not best[0]:
        raise SourceError(
            f"there is no scratch space: no volume group of the run ({', '.join(sorted(trusted))}) has free extents",
            remedy="name a directory with --scratch",
        )
    return best[1], best[0]


def _is_usable(group: Group) -> bool:
    wrong = group.missing or group.duplicates or group.exported or group.foreign or group.lock_type or group.namesake
    return bool(group.name) and group.writable and not wrong


def room(trusted: Collection[str], timeout: float) -> int:
    """Return how many bytes of room the largest volume has that could be made. Raises: SourceError, ProgramError."""
    _, free = roomiest(lvm_groups.report(timeout).values(), trusted)
    return max(0, free - LEAST) // (OVERHEAD + 1) * OVERHEAD


@contextmanager
def volume(ledger: Ledger, room: int, trusted: Collection[str], timeout: float) -> Iterator[Scratch]:
    """Have a new volume with a file system that has so many bytes of room, mounted for this process and its children.

    It is made in one of the `trusted` groups. `timeout` in seconds is that of each command of LVM's.
    Raises: SourceError, with numbers, when it does not fit; ProgramError, OSError; ReleaseError when it cannot be
    removed.
    """
    size = room + room // OVERHEAD + LEAST
    group, free = roomiest(lvm_groups.report(timeout).values(), trusted)
    if free < size:
        raise SourceError(
            f"the scratch space does not fit: {human(size)} are needed, {human(free)} are free in {group}",
            remedy="name a directory with --scratch",
        )
    name = f"{prefix(ledger.run_id)}0"
    tags = [word for tag in (TAG, f"{RUN_TAG}{ledger.run_id}", SCRATCH_TAG) for word in ("--addtag", tag)]
    make = ["lvcreate", "--name", name, "--yes", "--config", SILENT + OURS, *tags, "--zero", "y"]
    try:
        subprocesses.run([*make, "--wipesignatures", "y", "--size", f"{-(-size // 1024)}k", group], timeout=timeout)
        device = f"/dev/mapper/{dm_name(group, name)}"
        subprocesses.run([*DIE_WITH_US, *MKFS, device], timeout=timeout)
        with _mounted(device, os.path.join(ledger.directory, DIRECTORY)) as directory:
            yield Scratch(directory, f"{group}/{name}")
    finally:
        _remove(f"{group}/{name}", timeout)


@contextmanager
def _mounted(device: str, directory: str) -> Iterator[str]:
    """Mount it in a namespace of ours, in which what is mounted on the host meanwhile (a repository) is seen too."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    os.mkdir(directory, 0o700)
    syscalls.mount(device, directory, "ext4", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    try:
        os.chmod(directory, 0o700)
        yield directory
    finally:
        syscalls.umount(directory)


def _remove(name: str, timeout: float) -> None:
    """Remove the volume, if it was made. Raises: ReleaseError."""
    try:
        if name in {volume.full_name for volume in lvm.report(timeout)}:
            subprocesses.run(["lvremove", "--yes", "--force", "--config", SILENT + OURS, name], timeout=timeout)
    except subprocesses.ProgramError as error:
        raise not_removed(name, " ".join([error.brief, *error.details])) from error
