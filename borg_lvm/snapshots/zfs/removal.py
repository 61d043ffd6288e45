"""Finding snapshots of datasets by their names and properties, and destroying them: after a run, and after a crash."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.errors import BorgLvmError, SnapshotError
from borg_lvm.linux import subprocesses
from borg_lvm.linux.subprocesses import DEFAULT_TIMEOUT
from borg_lvm.log import Log
from borg_lvm.machine import zfs_datasets
from borg_lvm.machine.zfs_datasets import KEEP_PROPERTY, OwnSnapshot
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots import users
from borg_lvm.snapshots.provider import Named, RunContext
from borg_lvm.snapshots.zfs import device, library
from borg_lvm.state.dead_run import Dead

SETTLING = 2.0
"""Seconds in which a file system that was unmounted is gone."""


def named() -> list[Named]:
    """Return all snapshots of runs, wherever they are."""
    with suppress(BorgLvmError):  # no pool answers: `clean` says so where it matters
        return [Named(one.run_id, one.name, kept=one.kept) for one in zfs_datasets.snapshots(DEFAULT_TIMEOUT)]
    return []


@contextmanager
def released(run: RunContext, *, keep: bool) -> Iterator[Leftovers]:
    """Hold the duty to destroy the snapshots of a plan, whichever of them will be made, as `Provider.released`."""
    complete = False
    leftovers = Leftovers()
    try:
        yield leftovers
        complete = True
    finally:
        for snapshot in run.plan.snapshots:
            device.forgotten(snapshot.full_name)
        if keep and complete:
            leftovers.extend(_keep([snapshot.full_name for snapshot in run.plan.snapshots], run))
        else:
            leftovers.extend(remove(run.plan.run_id, run.log, run.timeout, kept=False))


def _keep(names: Sequence[str], run: RunContext) -> Iterator[str]:
    """Have the snapshots of a run kept, by their property; yield what could not be."""
    try:
        subprocesses.run(["zfs", "set", f"{KEEP_PROPERTY}=yes", *names], timeout=run.timeout)
    except BorgLvmError as error:
        yield f"the snapshots {', '.join(names)}, which could not be marked as kept: {error}"
        return
    # Not to be silenced by --quiet: they have to be removed by hand.
    run.log.warning(f"kept {', '.join(names)}; remove with: borg-lvm clean --run {run.plan.run_id}")


def of_run(run_id: str, timeout: float, *, kept: bool) -> list[OwnSnapshot]:
    """Return the snapshots of a run, `kept` ones too. Raises: ProgramError."""
    return [one for one in zfs_datasets.snapshots(timeout) if one.run_id == run_id and (kept or not one.kept)]


def remove(run_id: str, log: Log, timeout: float, *, kept: bool, since: int | None = None) -> Iterator[str]:
    """Destroy a run's snapshots, `kept` ones too; yield what could not be. Those that are not there are gone already.

    Only what bears its name and its property is destroyed. `since` is when the run's process began (`end_users`).
    """
    try:
        for one in of_run(run_id, timeout, kept=kept):
            yield from _destroyed(one.name, log, since)
    except BorgLvmError as error:
        yield f"the snapshots of run {run_id} in ZFS, if there are any: {error}"


def _destroyed(name: str, log: Log, since: int | None) -> Iterator[str]:
    """Destroy one; who still sees it mounted, or uses a file on it, was of the view, and is ended by `end_users`."""
    why = _attempt(name)
    if why and why.errno == errno.EBUSY:
        with suppress(OSError):
            numbers = [device.number(name)]
            if not users.mounted(numbers):
                users.unmount_elsewhere(numbers)
                users.end_users(numbers, log, since)
        why = _attempt(name)
    by_hand = f"zfs release {library.HOLD} {name}; zfs destroy {name}"
    if why:
        yield f"snapshot {name}: {why.strerror}; to destroy it: {by_hand}"
    elif library.is_there(name):
        yield f"snapshot {name}: somebody else holds it or has cloned it (zfs holds {name}), and it goes with that"


def _attempt(name: str) -> OSError | None:
    """Destroy a snapshot; return why it is still there."""
    end = time.monotonic() + SETTLING
    while True:
        try:
            with suppress(FileNotFoundError, ProcessLookupError):  # no such snapshot, no such hold
                library.release(name)
            library.destroy(name)
            return None
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                return error
        time.sleep(0.05)


def devices(run_id: str) -> list[int]:
    """Return the numbers (`st_dev`) of the snapshots of a dead run."""
    numbers = []
    with suppress(BorgLvmError):
        for one in of_run(run_id, DEFAULT_TIMEOUT, kept=True):
            with suppress(OSError):
                numbers.append(device.number(one.name))
    return numbers


def clean(dead: Dead, log: Log, timeout: float) -> Leftovers:
    """Destroy what a dead run has left; return what could not be.

    Without a ledger it may be a run that is alive, in a container whose /run is not ours: then what somebody sees is
    left alone.
    """
    if dead.entry is None and users.is_seen(devices(dead.run_id)):
        return Leftovers(f"snapshot {name}: somebody has it mounted" for name in dead.others)
    leftovers = Leftovers(remove(dead.run_id, log, timeout, kept=dead.kept, since=dead.began))
    leftovers.extend(_not_imported(dead.facts("dataset", "pool")))
    return leftovers


def _not_imported(pools: Iterable[str]) -> Iterator[str]:
    """Yield the pools, by their ids, that nobody can look into now."""
    try:
        there = set(subprocesses.run(["zpool", "list", "-Hp", "-o", "guid"]).split()) if pools else set()
    except (BorgLvmError, SnapshotError):
        there = set()
    for pool in pools:
        if pool not in there:
            yield f"snapshots in the pool {pool}, if they were made: zpool import {pool}, then: borg-lvm clean"
