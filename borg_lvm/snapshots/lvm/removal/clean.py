"""LVM's part of releasing what a dead run has left: resuming its volumes, ending its programs, removing its snapshots.

Each works from any state that a run can die in, and again when it dies itself half-way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from borg_lvm.errors import BorgLvmError
from borg_lvm.linux import device_mapper, processes, subprocesses
from borg_lvm.log import Log
from borg_lvm.machine.lvm import RUN_TAG, Volume, prefix
from borg_lvm.planning import ownership
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots.lvm import arm, group_lock
from borg_lvm.snapshots.lvm.removal import origin_tables
from borg_lvm.snapshots.lvm.removal import remove as releasing
from borg_lvm.state import ledger
from borg_lvm.state.dead_run import Dead

PROGRAMS = frozenset(("lvcreate", "lvconvert", "lvremove", "lvchange", "lvextend", "dmsetup", "cryptsetup"))
INTERPRETERS = re.compile(r"lvm|sh|ash|bash|dash|busybox|perl|python[\d.]*")
"""What may have one of them as its first argument, by the name that the kernel knows."""
RESUME_TIMEOUT = 30.0
"""Seconds for a question to LVM while a volume may be suspended."""


def resume(dead: Dead, log: Log) -> None:
    """Resume the volumes that the run may have left suspended; to be asked if it died within its window."""
    if dead.entry is None:
        return
    names = {step["origin"]: step.get("volume") for step in dead.entry.named("snapshot")}
    # The lower ones first: thawing a file system writes to what lies below it.
    patience = 0.0 if programs(dead) else origin_tables.PATIENCE  # they may keep LVM's lock, and hang
    for uuid in [*dead.facts("below", "device"), *dead.facts("snapshot", "origin")]:
        with suppress(OSError):
            vg = str(names.get(uuid) or "").partition("/")[0]
            if origin_tables.resume_left(uuid, vg, RESUME_TIMEOUT, patience if vg else 0.0):
                log.warning(f"resumed {names.get(uuid) or uuid}, which a dead run had left suspended")


def programs(dead: Dead) -> list[processes.Process]:
    """Return the programs of LVM's that a dead run has left at work."""
    recorded = {(step["pid"], step["start"]) for step in dead.entry.named("program")} if dead.entry else set()
    known = processes.find(lambda pid: (pid, processes.start_time(pid)) in recorded)
    others = processes.searched(lambda pid: _works_for(pid, dead.run_id), _may_be_program)
    return list(dict.fromkeys([*known, *others]))


def _may_be_program(pid: int) -> bool:
    """Whether a process may be one of LVM's programs. It is not asked: a stranger's may keep us waiting for ever.

    Who is called so and is root's in our user namespace is none of a stranger's. Raises: OSError.
    """
    if os.stat(f"/proc/{pid}").st_uid != 0 or _world(pid) != _world("self"):
        return False
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        name = file.read().strip()
    return name in PROGRAMS or bool(INTERPRETERS.fullmatch(name))


def _world(pid: int | str) -> str:
    """Return a process's user namespace; nothing where the kernel has none. Raises: OSError."""
    with suppress(FileNotFoundError):
        return os.readlink(f"/proc/{pid}/ns/user")
    return ""


def _works_for(pid: int, run_id: str) -> bool:
    """Whether a process is one of LVM's programs at work on what this run makes: its arguments name it."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = os.fsdecode(file.read()).split("\0")
    # The second word is the program where an interpreter is the first.
    programs = {os.path.basename(word) for word in words[:2]}
    return bool(programs & PROGRAMS) and any(word == f"{RUN_TAG}{run_id}" or prefix(run_id) in word for word in words)


def disarm(dead: Dead, timeout: float) -> None:
    """Undo what the run has made ready for its window, unless somebody else has just released it."""
    steps = dead.entry.named("armed") if dead.entry else []
    named = dead.entry.named("snapshot") if dead.entry else []
    groups = {str(step["volume"]).partition("/")[0] for step in named if "volume" in step}
    with ExitStack() as stack:
        if steps:
            with suppress(BorgLvmError, OSError):  # who keeps the lock for so long hangs
                place = group_lock.directory(group_lock.settings(timeout))
                stack.enter_context(group_lock.locked(groups, place, origin_tables.PATIENCE))
        for step in steps:
            if os.path.lexists(ledger.path(dead.run_id)):
                arm.disarm(str(step["origin"]), str(step["snapshot"]))


def remove(dead: Dead, log: Log, timeout: float) -> Leftovers:
    """Remove the dead run's snapshots, whatever has become of them, and see to their origins; return what is left."""
    if dead.snapshots:
        try:
            releasing.remove(dead.snapshots, timeout)
        except subprocesses.ProgramError as error:
            if releasing.ours(dead.run_id, dead.known, timeout, kept=dead.kept):  # else somebody was faster
                log.warning("\n".join([error.message, *error.details]))
    leftovers = releasing.remove_changed(dead.run_id, dead.known, log, timeout, kept=dead.kept)
    touched = dead.facts("snapshot", "origin")
    releasing.remove_half_made(touched)
    if origin_tables.suspicious(touched):
        leftovers.add(origin_tables.put_right(touched, log, timeout)[1])
    return leftovers


def mend(mapped: Mapping[str, str], volumes: Sequence[Volume], log: Log, timeout: float) -> tuple[bool, Leftovers]:
    """Remove devices of snapshots that LVM does not know, and put right volumes of its that are on a wrong table.

    For what nobody has a ledger of any more. `mapped` are all devices, from before the volumes were listed. Returns
    whether there was anything, and what is left of it.
    """
    leftovers = Leftovers()
    left = [uuid for uuid in ownership.orphans(mapped, volumes) if device_mapper.is_there(uuid)]
    for uuid in left:
        leftovers.extend(releasing.remove_device(uuid))
        log.warning(f"the device {uuid} belonged to a snapshot that LVM knows nothing of")
    mended = False
    if origin_tables.suspicious(volume.dm_uuid for volume in volumes):
        mended, wrong = origin_tables.put_right(None, log, timeout)
        leftovers.add(wrong)
    return mended or bool(left), leftovers
