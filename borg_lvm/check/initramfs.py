"""Whether the initramfs of the running kernel can activate a root volume that has a snapshot.

A run that a power cut ends leaves its snapshots, and LVM activates no volume without those of it that are thick: where
the initramfs lacks the module, the machine does not boot. initramfs-tools and dracut have it with LVM; not everybody
has these.
"""

from __future__ import annotations

import os
import shutil

from borg_lvm.linux import subprocesses
from borg_lvm.planning.plan import Plan

LISTED_BY = (("lsinitramfs", "/boot/initrd.img-{}"), ("lsinitrd", "/boot/initramfs-{}.img"))
MODULE = "dm-snapshot.ko"


def concerned(plan: Plan | None) -> bool:
    """Return whether a run of this plan makes a thick snapshot of the root volume."""
    return plan is not None and any(
        snapshot.mounted_at == "/" and not snapshot.origin.is_thin for snapshot in plan.snapshots
    )


def without_snapshots(release: str) -> str:
    """Return the path of the initramfs, if it has LVM and surely lacks the module; else nothing."""
    try:
        with open(f"/lib/modules/{release}/modules.builtin", encoding="utf-8") as file:
            if MODULE in file.read():
                return ""
    except OSError:
        return ""  # a kernel that has no modules here is booted in some other way
    for program, place in LISTED_BY:
        image = place.format(release)
        if os.path.exists(image) and shutil.which(program, path=subprocesses.environment()["PATH"]):
            return image if _lacks(program, image) else ""
    return ""


def _lacks(program: str, image: str) -> bool:
    try:
        listed = subprocesses.run([program, image])
    except subprocesses.ProgramError:
        return False
    names = {os.path.basename(line.split(" -> ")[0]).strip() for line in listed.splitlines()}
    return "lvm" in names and not any(name.startswith(MODULE) for name in names)
