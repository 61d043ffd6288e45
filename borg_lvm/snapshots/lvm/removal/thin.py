"""Removing a thin snapshot that an `lvcreate` killed half-way has made in the pool, and not in LVM's metadata yet.

LVM first has the pool make a thin volume, then writes down that it has. Killed in between, it asks for it again at
each later change of the pool, and fails, also when it is to remove that snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from borg_lvm.linux import subprocesses
from borg_lvm.machine import lvm
from borg_lvm.machine.lvm import dm_name
from borg_lvm.machine.lvm_settings import FORM, JSON

_MADE_TWICE = re.compile(r"already contain thin device with device_id (\d+)")


def delete_in_pool(complaint: str, names: Sequence[str], timeout: float) -> None:
    """Delete in the pool itself what LVM complains of, if that is one of our own snapshots (`vg/lv`).

    The number in the complaint must be one of theirs: then nobody else can have made it in the pool. LVM makes it once
    more when it is next asked to remove it, and then removes it. Raises: ProgramError.
    """
    twice = _MADE_TWICE.search(complaint)
    ours = _numbers(names, timeout) if twice else {}
    if twice and twice[1] in ours:
        pool = f"{ours[twice[1]]}-tpool"
        subprocesses.run(["dmsetup", "message", pool, "0", f"delete {twice[1]}"], timeout=timeout)


def _numbers(names: Sequence[str], timeout: float) -> dict[str, str]:
    """Return the pool (its device-mapper name) of each thin snapshot, by the snapshot's number in it."""
    argv = ["lvs", *JSON, "--config", FORM, "--options", "thin_id,vg_name,pool_lv", *names]
    rows = lvm.rows(subprocesses.run(argv, timeout=timeout))
    return {row["thin_id"]: dm_name(row["vg_name"], row["pool_lv"].strip("[]")) for row in rows if row["thin_id"]}
