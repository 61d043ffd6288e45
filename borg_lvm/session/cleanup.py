"""Releasing what dead runs have left: by their ledgers and by our tags, never by names, never from a live run.

Works from any state that a run can die in, and again when it dies itself half-way.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from borg_lvm.errors import BorgLvmError
from borg_lvm.linux import device_mapper, processes, safe_open, subprocesses, syscalls
from borg_lvm.log import Log
from borg_lvm.machine import lvm, mounts
from borg_lvm.machine.lvm import KEEP_TAG, RUN_TAG, Volume, dm_name, prefix
from borg_lvm.machine.lvm_settings import FORM, JSON
from borg_lvm.planning import ownership
from borg_lvm.planning.ownership import Known
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots import expedite, luks, users
from borg_lvm.snapshots.lvm import arm, group_lock
from borg_lvm.snapshots.lvm.removal import origin_tables
from borg_lvm.snapshots.lvm.removal import remove as releasing
from borg_lvm.state import ledger
from borg_lvm.view import host_view
from borg_lvm.watchdog import resume

PROGRAMS = frozenset(("lvcreate", "lvconvert", "lvremove", "lvchange", "lvextend", "dmsetup", "cryptsetup"))
INTERPRETERS = re.compile(r"lvm|sh|ash|bash|dash|busybox|perl|python[\d.]*")
"""What may have one of them as its first argument, by the name that the kernel knows."""
PATIENCE = 20.0
"""Seconds that such a program gets to end by itself: LVM heeds no signal while it changes a volume group."""
RESUME_TIMEOUT = 30.0
"""Seconds for a question to LVM while a volume may be suspended."""
WATCHDOG_PATIENCE = 5.0
"""Seconds that the watchdog of a dead run gets to end by itself."""
_HEADER = 4096
_MADE_TWICE = re.compile(r"already contain thin device with device_id (\d+)")


@dataclass(frozen=True)
class Dead:
    """A run whose process is gone, and what is left of it: snapshots (`vg/lv`) and what its ledger tells.

    `kept`: they were to be kept, and may be removed all the same.
    """

    run_id: str
    snapshots: tuple[str, ...]
    entry: ledger.Entry | None = field(default=None)
    kept: bool = False

    @property
    def known(self) -> Known:
        """What the run has written down of its snapshots."""
        return _known(self.entry)

    def told(self, step: str, fact: str) -> list[str]:
        """Return one fact of all the ledger's steps of a name, each once."""
        if self.entry is None:
            return []
        return list(dict.fromkeys(str(found[fact]) for found in self.entry.named(step)))


def dead_runs(volumes: Sequence[Volume], entries: Sequence[ledger.Entry], only: str = "") -> list[Dead]:
    """Return the runs that have left something. Kept snapshots are left alone, unless their run is named.

    The volumes must have been listed *before* the ledgers were read: a run writes its ledger first.
    """
    known = {entry.run_id: entry for entry in entries}
    left: dict[str, list[Volume]] = {entry.run_id: [] for entry in entries}
    for volume in volumes:
        if not volume.run_id or (KEEP_TAG in volume.tags and volume.run_id != only):
            continue
        if _is_ours(volume, volumes, known.get(volume.run_id)):
            left.setdefault(volume.run_id, []).append(volume)
    found = []
    for run_id, members in sorted(left.items()):
        entry = known.get(run_id)
        if (only and run_id != only) or (entry and entry.is_live):
            continue
        names = tuple(volume.full_name for volume in members)
        found.append(Dead(run_id, names, entry, kept=run_id == only))
    return found


def strangers(volumes: Sequence[Volume], entries: Sequence[ledger.Entry]) -> list[Volume]:
    """Return the volumes that carry the tag of a run which is not alive, and are no snapshots of ours."""
    known = {entry.run_id: entry for entry in entries}
    dead = [one for one in volumes if one.run_id and not (one.run_id in known and known[one.run_id].is_live)]
    return [volume for volume in dead if not _is_ours(volume, volumes, known.get(volume.run_id))]


def _known(entry: ledger.Entry | None) -> Known:
    if entry is None:
        return Known()
    names = (str(step["name"]) for step in entry.named("snapshot"))
    return Known(frozenset(names), frozenset(str(step["uuid"]) for step in entry.named("made")))


def _is_ours(volume: Volume, volumes: Sequence[Volume], entry: ledger.Entry | None) -> bool:
    known = _known(entry)
    if ownership.is_ours(volume, volumes, known):
        return True
    return not known.names and ownership.may_be_space(volume) and _is_blank(volume)


def _is_blank(volume: Volume) -> bool:
    """Tell whether there is nothing on a volume but the beginning of a snapshot's space. In doubt there is.

    Source: drivers/md/dm-snap-persistent.c, SNAP_MAGIC.
    """
    try:
        with open(f"/dev/mapper/{dm_name(volume.vg, volume.name)}", "rb") as file:
            data = file.read(_HEADER)
    except OSError:
        return False
    return len(data) == _HEADER and (not any(data) or data.startswith(b"SnAp"))


def set_going(entries: Sequence[ledger.Entry], log: Log, only: str = "") -> None:
    """Set going what dead runs have left standing still, and end the programs of LVM's that they have left at work.

    To be done before LVM is asked for the volumes: it would wait for such a program, and would not show what that
    program is about to make.
    """
    for entry in entries:
        if entry.is_live or (only and entry.run_id != only):
            continue
        dead = Dead(entry.run_id, (), entry)
        _end_watchdog(dead)
        _set_going(dead, log)
        _end_programs(dead, log)
        _set_going(dead, log)  # what a program that had to be killed was holding


def _end_watchdog(dead: Dead) -> None:
    """End the dead run's watchdog, unless it soon ends by itself: it must not set going what a later run holds still.

    All that it could still do is done here, too.
    """
    for step in dead.entry.named("watchdog") if dead.entry else ():
        watchdog = processes.Process(int(str(step["pid"])), int(str(step["start"])), "watchdog")
        end = time.monotonic() + WATCHDOG_PATIENCE
        while processes.start_time(watchdog.pid) == watchdog.start and time.monotonic() < end:
            time.sleep(0.05)
        watchdog.kill(signal.SIGKILL)


def _end_programs(dead: Dead, log: Log) -> None:
    why = f"run {dead.run_id} is dead, a program that it started is not"
    processes.end(lambda: _programs(dead), log, why, PATIENCE)


def _programs(dead: Dead) -> list[processes.Process]:
    """Return the programs of LVM's that a dead run has left at work."""
    told = {(step["pid"], step["start"]) for step in dead.entry.named("program")} if dead.entry else set()

    known = processes.find(lambda pid: (pid, processes.start_time(pid)) in told)
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


def release(dead: Dead, log: Log, timeout: float) -> Leftovers:
    """Release all that a dead run has left; returns what could not be released."""
    if dead.entry and dead.entry.damaged:
        why = f"the ledger of the dead run {dead.run_id} is damaged"
        log.warning(f"{why}: what it had made besides snapshots may be left ({ledger.path(dead.run_id)})")
    leftovers = Leftovers(_set_going(dead, log))
    _disarm(dead, timeout)
    for base in dead.told("shown", "path"):
        host_view.take_down(base, dead.run_id, _devices(dead), log)
    _end_processes(dead, log)
    for name in dead.told("mapping", "name"):
        if os.path.exists(f"/dev/mapper/{name}"):
            try:
                luks.close(name)
            except subprocesses.ProgramError as error:
                leftovers.append(f"device {name}: {' '.join(error.details) or error.message}")
    _remove(dead, log, leftovers, timeout)
    if not leftovers:
        ledger.forget(dead.run_id)
        if os.path.lexists(ledger.path(dead.run_id)):
            leftovers.append(f"the ledger {ledger.path(dead.run_id)} of run {dead.run_id}, which cannot be removed")
            return leftovers
        what = f"{len(dead.snapshots)} snapshot{'s' * (len(dead.snapshots) != 1)}"
        log.info(f"released what run {dead.run_id} had left: {what}")
    return leftovers


def _remove(dead: Dead, log: Log, leftovers: Leftovers, timeout: float) -> None:
    """Remove the dead run's snapshots, whatever has become of them, and see to their origins."""
    if dead.snapshots:
        try:
            _remove_snapshots(dead, timeout)
        except subprocesses.ProgramError as error:
            if releasing.ours(dead.run_id, dead.known, timeout, kept=dead.kept):  # else somebody was faster
                log.warning("\n".join([error.message, *error.details]))
    releasing.remove_changed(dead.run_id, dead.known, log, leftovers, timeout, kept=dead.kept)
    touched = dead.told("snapshot", "origin")
    releasing.remove_half_made(touched)
    if origin_tables.suspicious(touched):
        origin_tables.put_right(touched, log, leftovers, timeout)


def mend(mapped: Mapping[str, str], volumes: Sequence[Volume], log: Log, leftovers: Leftovers, timeout: float) -> bool:
    """Remove devices of snapshots that LVM does not know, and put right volumes of its that are on a wrong table.

    For what nobody has a ledger of any more. `mapped` are all devices, from before the volumes were listed. Tells
    whether there was anything.
    """
    left = [uuid for uuid in ownership.orphans(mapped, volumes) if device_mapper.is_there(uuid)]
    for uuid in left:
        releasing.remove_device(uuid, leftovers)
        log.warning(f"the device {uuid} belonged to a snapshot that LVM knows nothing of")
    mended = False
    if origin_tables.suspicious(volume.dm_uuid for volume in volumes):
        mended = origin_tables.put_right(None, log, leftovers, timeout)
    return mended or bool(left)


def _set_going(dead: Dead, log: Log) -> list[str]:
    """Set going what the run may have left standing still; returns the applications that could not be resumed."""
    _set_volumes_going(dead, log)
    left = []
    for name, how in resume.standing(dead.entry).items() if dead.entry else ():
        try:
            resume.run(ledger.path(dead.run_id), name, how)
            log.warning(f"resumed {name}, which an interrupted run may have left quiesced")
        except subprocesses.ProgramError as error:
            left.append(f"application {name} may still be quiesced: {' '.join(error.details) or error.message}")
    return left


def _disarm(dead: Dead, timeout: float) -> None:
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


def _set_volumes_going(dead: Dead, log: Log) -> None:
    """Resume and thaw what the run may have left standing still, if it died within its window."""
    if dead.entry is None or len(dead.entry.named("thawed")) == len(dead.entry.named("window")):
        return
    names = {step["origin"]: step.get("volume") for step in dead.entry.named("snapshot")}
    if len(dead.entry.named("expedited")) > len(dead.entry.named("unexpedited")):
        expedite.end()
    # The lower ones first: thawing a file system writes to what lies below it.
    patience = 0.0 if _programs(dead) else origin_tables.PATIENCE  # they may keep LVM's lock, and hang
    for uuid in [*dead.told("below", "device"), *dead.told("snapshot", "origin")]:
        with suppress(OSError):
            vg = str(names.get(uuid) or "").partition("/")[0]
            if origin_tables.resume_left(uuid, vg, RESUME_TIMEOUT, patience if vg else 0.0):
                log.warning(f"resumed {names.get(uuid) or uuid}, which a dead run had left suspended")
    for path, device in {str(step["path"]): int(str(step["device"])) for step in dead.entry.named("freeze")}.items():
        if _thaw(path, device):
            log.warning(f"thawed {path}, which a dead run had left frozen")


def _thaw(path: str, device: int) -> bool:
    """Thaw a file system (`st_dev`), at its mount point or wherever else it is mounted; tell whether it was frozen."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for place in dict.fromkeys([path, *(mount.path for mount in mounts.read() if mount.device == number)]):
        with suppress(OSError), safe_open.path(place) as point:
            if safe_open.identity(point).device == device:
                fd = safe_open.reopened(point, os.O_RDONLY)
                try:
                    syscalls.thaw(fd)
                finally:
                    os.close(fd)
                return True
    return False


def _remove_snapshots(dead: Dead, timeout: float) -> None:
    """Remove the snapshots; first out of the pool itself what an `lvcreate` killed half-way has made there alone.

    LVM first tells the pool to make a thin volume, then writes down that it has. Killed in between, it tells it again
    at each later change of the pool, and fails. The number in its complaint must be one of our own snapshots': then
    nobody else can have made it in the pool. It is deleted there; LVM makes it once more, and then removes it.
    """
    try:
        releasing.remove(dead.snapshots, timeout)
    except subprocesses.ProgramError as error:
        twice = _MADE_TWICE.search(error.stderr)
        ours = _thin_numbers(dead.snapshots, timeout) if twice else {}
        if not twice or twice[1] not in ours:
            raise
        subprocesses.run(["dmsetup", "message", f"{ours[twice[1]]}-tpool", "0", f"delete {twice[1]}"], timeout=timeout)
        releasing.remove(dead.snapshots, timeout)


def _thin_numbers(names: Sequence[str], timeout: float) -> dict[str, str]:
    """Return the pool (its device-mapper name) of each thin snapshot, by the snapshot's number in it."""
    argv = ["lvs", *JSON, "--config", FORM, "--options", "thin_id,vg_name,pool_lv", *names]
    rows = lvm.rows(subprocesses.run(argv, timeout=timeout))
    return {row["thin_id"]: dm_name(row["vg_name"], row["pool_lv"].strip("[]")) for row in rows if row["thin_id"]}


def _end_processes(dead: Dead, log: Log) -> None:
    """End the processes that still live in the dead run's view: nobody will ever judge what they save.

    Without a ledger nobody is ended: a snapshot with our tag alone may be that of a run whose /run is not ours.
    """
    if dead.entry is None:
        return
    devices = list(_devices(dead))
    seen = users.end_viewers(devices, log, f"run {dead.run_id} is dead, its command is not")
    users.end_holders(devices, log)
    if seen:
        log.warning(
            f"somebody has mounted a snapshot of the dead run {dead.run_id} on {seen}; to remove it: umount {seen}"
        )


def _devices(dead: Dead) -> Iterable[int]:
    """Yield the device numbers that the dead run's view consists of."""
    names = [*dead.told("mapping", "name"), *(dm_name(*name.split("/")) for name in dead.snapshots)]
    for name in names:
        with suppress(OSError):
            yield safe_open.own_device_number(f"/dev/mapper/{name}")
