"""Removing the snapshots of a run, whichever of them were made, and proving that they are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.errors import BorgLvmError
from borg_lvm.linux import device_mapper, safe_open, subprocesses
from borg_lvm.log import Log
from borg_lvm.machine import lvm
from borg_lvm.machine.lvm import Volume
from borg_lvm.machine.lvm_settings import IN_USE, OURS
from borg_lvm.planning import ownership
from borg_lvm.planning.ownership import RecordedSnapshots
from borg_lvm.planning.plan import Plan
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots import users
from borg_lvm.snapshots.lvm.removal import merge, origin_tables, thin
from borg_lvm.snapshots.provider import RunContext

GRACE = 2.0
"""Seconds that an lvremove gets to end by itself when we are killed; then the watchdog sets its origin going."""

LVREMOVE = ("lvremove", "--yes", "--force", "--autobackup", "n", "--config", IN_USE + OURS)


def remove(names: Sequence[str], timeout: float) -> None:
    """Remove snapshots (`vg/lv`), all in one command; in a second one what the first could not.

    An origin that was resumed in the middle of an `lvcreate` is a plain volume again, below which LVM does not find
    the snapshot: then the first attempt takes the two apart, and the second removes.
    Raises: ProgramError, which holds LVM's reasons.
    """
    argv = [*LVREMOVE, *names]
    try:
        subprocesses.run(argv, timeout=timeout)
    except subprocesses.ProgramError as error:
        thin.delete_in_pool(error.stderr, names, timeout)
        subprocesses.run(argv, timeout=timeout)


def remove_by_id(volume: Volume, timeout: float) -> None:
    """Remove a snapshot whose group has the name of another one since: LVM does nothing by that name.

    Raises: ProgramError.
    """
    chosen = f'vg_uuid="{volume.vg_uuid}" && lv_uuid="{volume.uuid}"'
    subprocesses.run([*LVREMOVE, "--select", chosen], timeout=timeout)


def remove_half_made(origins: Iterable[str]) -> None:
    """Remove the `-real` devices that a program of LVM's killed half-way has left beside origins (device-mapper uuids).

    An `lvremove` is one as well: when a second one has removed the snapshot, no command of LVM's knows of the device,
    and the origin cannot be snapshotted any more. Those that are in use stay: they belong to a snapshot.
    """
    for uuid in origins:
        with suppress(OSError):
            device_mapper.remove(f"{uuid}-real")


def ours(run_id: str, known: RecordedSnapshots, timeout: float, *, kept: bool = False) -> list[Volume]:
    """Return what LVM still has of a run's snapshots, whatever has become of them: hidden, renamed, split off.

    `kept`: also those that are to be kept.
    """
    listed = lvm.report(timeout, hidden=True)
    left = [volume for volume in listed if volume.dm_uuid in known.uuids or volume.run_id == run_id]
    left = [volume for volume in left if volume.dm_uuid in known.uuids or ownership.is_ours(volume, listed, known)]
    return [volume for volume in left if kept or lvm.KEEP_TAG not in volume.tags]


@contextmanager
def released(run: RunContext, *, keep: bool) -> Iterator[Leftovers]:
    """Hold the duty to remove the snapshots of a plan, whichever of them will be made, and to prove them gone.

    Yields what could not be removed, which is known when the block has ended; nothing is raised for it, because a
    release goes on to its end.
    """
    plan, log, timeout = run.plan, run.log, run.timeout
    complete = False
    leftovers = Leftovers()
    try:
        yield leftovers
        complete = True
    finally:
        if keep and complete:
            _mark_kept(plan, log, timeout)
        else:
            with suppress(BorgLvmError):  # a full /run must not stop a release
                run.ledger.write("window")  # lvremove suspends the origins: `clean` sees to them if we die here
            with run.watchdog.standing_by(timeout, GRACE) as messages:
                leftovers.add(_remove_all(run, complete=complete))
                leftovers.extend(_not_resumed(plan, log, timeout))
            for text in messages:
                log.warning(f"while the snapshots were removed: {text}")
            remove_half_made(snapshot.origin.dm_uuid for snapshot in plan.snapshots)
            leftovers.add(_put_right(run))
            if not leftovers:
                with suppress(BorgLvmError):
                    run.ledger.write("thawed")


def _mark_kept(plan: Plan, log: Log, timeout: float) -> None:
    names = [snapshot.full_name for snapshot in plan.snapshots]
    subprocesses.run(["lvchange", "--autobackup", "n", "--addtag", lvm.KEEP_TAG, *names], timeout=timeout)
    # Not to be silenced by --quiet: a user who does not know will not remove them.
    log.warning(f"kept {', '.join(names)}; remove with: borg-lvm clean --run {plan.run_id}")


def _remove_all(run: RunContext, *, complete: bool) -> Leftovers:
    """Remove the snapshots, and see that both LVM and device-mapper know none of them any more, by whatever name."""
    plan, log, timeout = run.plan, run.log, run.timeout
    names = [snapshot.full_name for snapshot in plan.snapshots]
    known = RecordedSnapshots(frozenset(names), frozenset(run.ledger.snapshots))
    try:
        if not complete:
            names = [volume.full_name for volume in ours(plan.run_id, known, timeout)]
        users.end_holders(_devices(plan), log)
        if names:
            with log.step(f"removing the snapshot{'s' * (len(names) > 1)} of {_origins(plan)}"):
                remove(names, timeout)
        if complete and not any(device_mapper.is_there(uuid + part) for uuid in known.uuids for part in ("", "-cow")):
            return Leftovers()  # LVM says so by its status, and the kernel knows none of them any more
    except BorgLvmError as error:
        log.warning("\n".join([error.message, *error.details]))
        users.end_holders(_devices(plan), log)
    return remove_changed(plan.run_id, known, log, timeout)


def _origins(plan: Plan) -> str:
    return ", ".join(snapshot.origin.full_name for snapshot in plan.snapshots)


def _devices(plan: Plan) -> list[int]:
    """Return the device numbers of what is mounted and of the snapshots below, as far as these are there."""
    devices = []
    for name in {name for snapshot in plan.snapshots for name in (snapshot.device, snapshot.volume_device)}:
        with suppress(OSError):
            devices.append(safe_open.own_device_number(name))
    return devices


def remove_changed(run_id: str, known: RecordedSnapshots, log: Log, timeout: float, *, kept: bool = False) -> Leftovers:
    """Remove those of a run's snapshots that somebody has made something else of; return what is left."""
    leftovers = Leftovers()
    try:
        left = ours(run_id, known, timeout, kept=kept)
        if left:
            for volume in left:
                _remove_one(volume, log, timeout)
            left = ours(run_id, known, timeout, kept=kept)
    except BorgLvmError as error:
        leftovers.append(f"cannot tell whether the snapshots are gone: {error.message}")
        return leftovers
    for volume in left:
        if volume.is_merging:
            leftovers.harms(merge.pending_merge(volume))
        else:
            leftovers.append(f"snapshot {volume.full_name}{_held(volume)}")
    for uuid in known.uuids - {volume.dm_uuid for volume in left}:
        leftovers.extend((*remove_device(uuid), *remove_device(f"{uuid}-cow")))
    return leftovers


def _held(volume: Volume) -> str:
    """Return what keeps LVM from removing a volume, and what to do, if another device does."""
    with suppress(OSError):
        names = users.lying_on(safe_open.own_device_number(f"/dev/mapper/{lvm.dm_name(volume.vg, volume.name)}"))
        if names:
            return f", on which the device {', '.join(names)} lies; first: dmsetup remove {' '.join(names)}"
    return ""


def _remove_one(volume: Volume, log: Log, timeout: float) -> None:
    try:
        if volume.is_merging:
            merge.stop(volume, timeout)
            origin = f"{volume.vg}/{volume.origin}"
            log.warning(
                f"{volume.full_name} was to be merged into {origin}, which would have thrown away what was written "
                "since: stopped"
            )
        try:
            remove([volume.full_name], timeout)
        except subprocesses.ProgramError:
            remove_by_id(volume, timeout)
    except BorgLvmError as error:
        log.warning("\n".join([error.message, *error.details]))


def remove_device(uuid: str) -> Iterator[str]:
    """Remove a device of a snapshot that LVM knows nothing of: a command of its own that was killed leaves such.

    Yields it if it is still there.
    """
    with suppress(OSError):
        device_mapper.remove(uuid)
    if device_mapper.is_there(uuid):
        yield f"the device {uuid}, of which LVM knows nothing"


def _put_right(run: RunContext) -> Leftovers:
    """See that the origins are on the tables that LVM knows; return which are not."""
    uuids = {snapshot.origin.dm_uuid for snapshot in run.plan.snapshots}
    if not origin_tables.suspicious(uuids):
        return Leftovers()
    with run.watchdog.standing_by(run.timeout, GRACE) as messages:
        _, leftovers = origin_tables.put_right(uuids, run.log, run.timeout)
    for text in messages:
        run.log.warning(f"while the origins were put right: {text}")
    return leftovers


def _not_resumed(plan: Plan, log: Log, timeout: float) -> Iterator[str]:
    """Resume the origins that an `lvremove` which died half-way has left suspended; yield those that could not be."""
    for snapshot in plan.snapshots:
        try:
            if origin_tables.resume_left(snapshot.origin.dm_uuid, snapshot.origin.vg, timeout):
                log.warning(f"resumed {snapshot.origin.full_name}, which somebody had left suspended")
        except OSError as error:
            yield f"{snapshot.origin.full_name} may still be suspended: {error.strerror}"
