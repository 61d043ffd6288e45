"""Whether the kernel can make thick snapshots: it has their target, or may still load it as a module."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from borg_lvm.errors import SourceError
from borg_lvm.linux import subprocesses
from borg_lvm.planning.plan import Snapshot

MODULE = "dm_snapshot"
LOADED = f"/sys/module/{MODULE}"
CLOSED = "/proc/sys/kernel/modules_disabled"
MODULES = ("/lib/modules", "/run/booted-system/kernel-modules/lib/modules")
"""Where the modules of each kernel lie: the latter on NixOS, whose modprobe looks there by itself."""


def refuse_missing(snapshots: Iterable[Snapshot]) -> None:
    """See that the kernel can make the snapshots of a plan; thin ones need no more than their origins do.

    Raises: SourceError.
    """
    why, remedy = refusal() if any(snapshot.extents for snapshot in snapshots) else ("", "")
    if why:
        raise SourceError(f"{why}; nothing was done", remedy=remedy)


def refusal() -> tuple[str, str]:
    """Return why the kernel cannot make snapshots, and what to do; two empty texts if it can.

    Programs are asked only where the module is not there already.
    """
    if os.path.exists(LOADED) or not (why := _not_loadable()) or _has_target():
        return "", ""
    return f"the kernel cannot make snapshots: {MODULE} is not loaded, and {why[0]}", why[1]


def _not_loadable() -> tuple[str, str] | None:
    release = os.uname().release
    if _is_closed():
        remedy = f"have it loaded at boot (echo {MODULE} >/etc/modules-load.d/borg-lvm.conf), and reboot"
        return "no module can be loaded any more (kernel.modules_disabled is 1)", remedy
    if not any(os.path.isdir(os.path.join(place, release)) for place in MODULES):
        return f"the modules of the running kernel {release} are gone, as after an upgrade of its package", "reboot"
    try:
        subprocesses.run(["modprobe", "--dry-run", "--quiet", MODULE])
    except subprocesses.ProgramError as error:
        if not error.returncode:
            return error.brief, f"see why: modprobe {MODULE}"
        return f"the kernel {release} has no such module", "install the kernel's package of modules"
    return None


def _is_closed() -> bool:
    try:
        with open(CLOSED, encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:  # a kernel without modules
        return False


def _has_target() -> bool:
    """Whether the target is built in: then there is no module, or none that can be seen."""
    try:
        return bool(re.search(r"(?m)^snapshot\s", subprocesses.run(["dmsetup", "targets"])))
    except subprocesses.ProgramError:
        return False
