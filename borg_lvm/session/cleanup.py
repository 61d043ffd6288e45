"""Releasing what dead runs have left: by their ledgers and by our tags, never by names, never from a live run.

Works from any state that a run can die in, and again when it dies itself half-way.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from borg_lvm.drill import scratch
from borg_lvm.drill.sandbox import limits
from borg_lvm.linux import processes, safe_open, subprocesses, syscalls
from borg_lvm.log import Log
from borg_lvm.machine import mounts
from borg_lvm.machine.lvm import KEEP_TAG, Volume, dm_name
from borg_lvm.planning import ownership
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots import luks, users
from borg_lvm.snapshots.instant import expedite
from borg_lvm.snapshots.provider import Named
from borg_lvm.snapshots.providers import provider
from borg_lvm.state import dead_run, ledger
from borg_lvm.state.dead_run import Dead
from borg_lvm.view import host_view
from borg_lvm.watchdog import resume

PATIENCE = 20.0
"""Seconds that such a program gets to end by itself: LVM heeds no signal while it changes a volume group."""
WATCHDOG_PATIENCE = 5.0
"""Seconds that the watchdog of a dead run gets to end by itself."""
_HEADER = 4096


def dead_runs(
    volumes: Sequence[Volume], entries: Sequence[ledger.LedgerEntry], only: str = "", named: Sequence[Named] = ()
) -> list[Dead]:
    """Return the runs that have left something. Kept snapshots are left alone, unless their run is named.

    The volumes must have been listed *before* the ledgers were read: a run writes its ledger first. So must the
    snapshots that have nothing but a name (`Provider.named`).
    """
    known = {entry.run_id: entry for entry in entries}
    left: dict[str, list[Volume]] = {entry.run_id: [] for entry in entries}
    for volume in volumes:
        if not volume.run_id or (KEEP_TAG in volume.tags and volume.run_id != only):
            continue
        if _is_ours(volume, volumes, known.get(volume.run_id)):
            left.setdefault(volume.run_id, []).append(volume)
    others: dict[str, list[str]] = {}
    for snapshot in named:
        if not snapshot.kept or snapshot.run_id == only:
            others.setdefault(snapshot.run_id, []).append(snapshot.name)
            left.setdefault(snapshot.run_id, [])
    runs = []
    for run_id, members in sorted(left.items()):
        entry = known.get(run_id)
        if (only and run_id != only) or (entry and entry.is_live):
            continue
        names = tuple(volume.full_name for volume in members)
        runs.append(Dead(run_id, names, entry, kept=run_id == only, others=tuple(others.get(run_id, ()))))
    return runs


def strangers(volumes: Sequence[Volume], entries: Sequence[ledger.LedgerEntry]) -> list[Volume]:
    """Return the volumes that carry the tag of a run which is not alive, and are no snapshots of ours."""
    known = {entry.run_id: entry for entry in entries}
    live = {run_id for run_id, entry in known.items() if entry.is_live}
    dead = [volume for volume in volumes if volume.run_id and volume.run_id not in live]
    return [volume for volume in dead if not _is_ours(volume, volumes, known.get(volume.run_id))]


def _is_ours(volume: Volume, volumes: Sequence[Volume], entry: ledger.LedgerEntry | None) -> bool:
    known = dead_run.known(entry)
    if ownership.is_ours(volume, volumes, known):
        return True
    return not known.names and ownership.may_be_space(volume) and _is_blank(volume)


def _is_blank(volume: Volume) -> bool:
    """Return whether there is nothing on a volume but the beginning of a snapshot's space. In doubt there is.

    Source: drivers/md/dm-snap-persistent.c, SNAP_MAGIC.
    """
    try:
        with open(f"/dev/mapper/{dm_name(volume.vg, volume.name)}", "rb") as file:
            data = file.read(_HEADER)
    except OSError:
        return False
    return len(data) == _HEADER and (not any(data) or data.startswith(b"SnAp"))


def resume_all(entries: Sequence[ledger.LedgerEntry], log: Log, only: str = "") -> None:
    """Resume and thaw what dead runs have left, and end the programs of LVM's that they have left at work.

    To be done before LVM is asked for the volumes: it would wait for such a program, and would not show what that
    program is about to make.
    """
    for entry in entries:
        if entry.is_live or (only and entry.run_id != only):
            continue
        dead = Dead(entry.run_id, (), entry)
        _end_watchdog(dead)
        _resume(dead, log)
        _end_programs(dead, log)
        _resume(dead, log)  # what a program that had to be killed was holding


def _end_watchdog(dead: Dead) -> None:
    """End the dead run's watchdog, unless it soon ends by itself: it must not resume what a later run has suspended.

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
    processes.end(lambda: provider().programs(dead), log, why, PATIENCE)


def release(dead: Dead, log: Log, timeout: float) -> Leftovers:
    """Release all that a dead run has left; returns what could not be released."""
    if dead.entry and dead.entry.damaged:
        why = f"the ledger of the dead run {dead.run_id} is damaged"
        log.warning(f"{why}: what it had made besides snapshots may be left ({ledger.path(dead.run_id)})")
    leftovers = Leftovers(_resume(dead, log))
    provider().disarm(dead, timeout)
    for base in dead.facts("shown", "path"):
        host_view.take_down(base, dead.run_id, _devices(dead), log, dead.began)
    _end_processes(dead, log)
    for name in dead.facts("mapping", "name"):
        if os.path.exists(f"/dev/mapper/{name}"):
            leftovers.extend(luks.not_closed(name))
    leftovers.add(provider().remove(dead, log, timeout))
    leftovers.extend(scratch.left(dead.entry))
    leftovers.extend(limits.left(dead.entry))
    if not leftovers:
        ledger.forget(dead.run_id)
        if os.path.lexists(ledger.path(dead.run_id)):
            leftovers.append(f"the ledger {ledger.path(dead.run_id)} of run {dead.run_id}, which cannot be removed")
            return leftovers
        count = len(dead.snapshots) + len(dead.others)
        what = f"{count} snapshot{'s' * (count != 1)}"
        log.info(f"released what run {dead.run_id} had left: {what}")
    return leftovers


def _resume(dead: Dead, log: Log) -> list[str]:
    """Resume and thaw what the run may have left; returns the applications that could not be resumed."""
    _set_volumes_going(dead, log)
    left = []
    for name, how in resume.unresumed(dead.entry).items() if dead.entry else ():
        try:
            resume.run(ledger.path(dead.run_id), name, how)
            log.warning(f"resumed {name}, which an interrupted run may have left quiesced")
        except subprocesses.ProgramError as error:
            left.append(f"application {name} may still be quiesced: {' '.join(error.details) or error.message}")
    return left


def _set_volumes_going(dead: Dead, log: Log) -> None:
    """Resume and thaw volumes that the run may have left, if it died within its window."""
    if dead.entry is None or len(dead.entry.named("thawed")) == len(dead.entry.named("window")):
        return
    if len(dead.entry.named("expedited")) > len(dead.entry.named("unexpedited")):
        expedite.end()
    provider().resume(dead, log)
    for path, device in {str(step["path"]): int(str(step["device"])) for step in dead.entry.named("freeze")}.items():
        if _thaw(path, device):
            log.warning(f"thawed {path}, which a dead run had left frozen")


def _thaw(path: str, device: int) -> bool:
    """Thaw a file system (`st_dev`), at its mount point or where else it is mounted; return whether it was frozen."""
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


def _end_processes(dead: Dead, log: Log) -> None:
    """End the processes that still live in the dead run's view: nobody will ever judge what they save.

    Without a ledger nobody is ended: a snapshot with our tag alone may be that of a run whose /run is not ours.
    """
    if dead.entry is None:
        return
    devices = list(_devices(dead))
    seen = users.end_viewers(devices, log, f"run {dead.run_id} is dead, its command is not")
    users.end_holders(devices, log, dead.began)
    if seen:
        log.warning(
            f"somebody has mounted a snapshot of the dead run {dead.run_id} on {seen}; to remove it: umount {seen}"
        )


def _devices(dead: Dead) -> Iterable[int]:
    """Yield the device numbers that the dead run's view consists of."""
    for name in dead.facts("mapping", "name"):
        with suppress(OSError):
            yield safe_open.own_device_number(f"/dev/mapper/{name}")
    yield from provider().devices(dead)
