"""States of a thin pool in which a snapshot can, or cannot, be made."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.rig import Rig
from tests.rig.tools import change
from tests.system.support.runs.program import run
from tests.system.support.states.building import configured, data, group_of


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
