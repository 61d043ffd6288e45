"""What a test may have left behind: everything that is there now and was not when the rig last looked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.rig.disks import loops
from tests.rig.filesystems import mounts
from tests.rig.tools import run


def state() -> set[str]:
    """Return all that could be left over, one line each, in words that tell what it is.

    From the kernel's own files: the rig asks after each step, and programs start slowly in an emulated guest.
    """
    found = {f"device-mapper device {name}" for name in dm_devices()}
    found |= {f"suspended device {name}" for name in dm_devices(suspended=True)}
    found |= {f"mount {mount}" for mount in mounts()}
    found |= {f"loop device {loop}" for loop in loops()}
    return found | {f"mount namespace {namespace}" for namespace in mount_namespaces()}


def dm_devices(*, suspended: bool = False) -> list[str]:
    """Return the names of device-mapper's devices, all of them or only the suspended ones."""
    found = []
    for device in Path("/sys/block").glob("dm-*/dm"):
        try:
            name, asleep = (device / "name").read_text().strip(), (device / "suspended").read_text().strip()
        except OSError:
            continue  # gone meanwhile
        if asleep == "1" or not suspended:
            found.append(name)
    return found


def tagged() -> list[str]:
    """Return the volumes that carry borg-lvm's tag."""
    return run("lvs", "-a", "--noheadings", "-o", "lv_full_name", "@borg_lvm").split()


def mount_namespaces() -> Iterator[str]:
    """Return the mount namespaces that live in some process: each may hold mounts that nobody else sees."""
    seen = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            namespace = os.readlink(process / "ns" / "mnt")
        except OSError:
            continue  # gone meanwhile
        if namespace not in seen:
            seen.add(namespace)
            yield namespace
