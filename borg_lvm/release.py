"""Removing the snapshots of a run, whichever of them were made, and proving that they are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from borg_lvm import dm, proc
from borg_lvm.devices import lvm
from borg_lvm.devices.lvm import IN_USE
from borg_lvm.errors import BorgLvmError
from borg_lvm.guardian import Guardian
from borg_lvm.ledger import Ledger
from borg_lvm.log import Log
from borg_lvm.plan import Plan

GRACE = 2.0
"""Seconds that an lvremove gets to end by itself when we are killed; then the guardian sets its origin going."""


def remove(names: Sequence[str], timeout: float) -> None:
    """Remove snapshots (`vg/lv`), all in one command; in a second one what the first could not.

    An origin that was set going in the middle of an `lvcreate` is a plain volume again, below which LVM does not find
    the snapshot: then the first attempt takes the two apart, and the second removes.
    Errors: ProgramError, which holds LVM's reasons.
    """
    argv = ["lvremove", "--yes", "--force", "--autobackup", "n", "--config", IN_USE, *names]
    try:
        proc.run(argv, timeout=timeout)
    except proc.ProgramError:
        proc.run(argv, timeout=timeout)


def remove_half_made(origins: Iterable[str]) -> None:
    """Remove the `-real` devices that a program of LVM's killed half-way has left beside origins (device-mapper uuids).

    Those that are in use stay: they belong to a snapshot.
    """
    for uuid in origins:
        with suppress(OSError):
            dm.remove(f"{uuid}-real")


def existing(run_id: str, timeout: float) -> list[str]:
    """Return the snapshots of a run that exist, by its tag."""
    return [volume.full_name for volume in lvm.report(timeout) if volume.run_id == run_id]


@contextmanager
def released(
    plan: Plan, watch: Guardian, ledger: Ledger, log: Log, leftovers: list[str], *, keep: bool, timeout: float
) -> Iterator[None]:
    """Hold the duty to remove the snapshots of a plan, whichever of them will be made, and to prove them gone.

    What cannot be removed is told in `leftovers`; nothing is raised, because a release goes on to its end.
    """
    complete = False
    try:
        yield
        complete = True
    finally:
        if keep and complete:
            _mark_kept(plan, log, timeout)
        else:
            with suppress(BorgLvmError):  # a full /run must not stop a release
                ledger.write("window")  # lvremove suspends the origins: `clean` looks after them if we die here
            with watch.standing_by(timeout, GRACE) as told:
                _remove_all(plan, log, leftovers, timeout, complete=complete)
            for text in told:
                log.warning(f"while the snapshots were removed: {text}")
            _resume_origins(plan, log, leftovers)
            if not complete:
                remove_half_made(copy.origin.dm_uuid for copy in plan.copies)
            if not leftovers:
                with suppress(BorgLvmError):
                    ledger.write("thawed")


def _mark_kept(plan: Plan, log: Log, timeout: float) -> None:
    names = [copy.full_name for copy in plan.copies]
    proc.run(["lvchange", "--autobackup", "n", "--addtag", lvm.KEEP_TAG, *names], timeout=timeout)
    # Not to be silenced by --quiet: who is not told will not remove them.
    log.warning(f"kept {', '.join(names)}; remove with: borg-lvm clean --run {plan.run_id}")


def _remove_all(plan: Plan, log: Log, leftovers: list[str], timeout: float, *, complete: bool) -> None:
    try:
        names = [copy.full_name for copy in plan.copies] if complete else existing(plan.run_id, timeout)
        if names:
            with log.step(f"removing {len(names)} snapshot{'s' * (len(names) > 1)}"):
                remove(names, timeout)
        if complete and not any(dm.exists(copy.dm_name) for copy in plan.copies):
            return  # LVM says so by its status, and the kernel knows none of them any more
    except BorgLvmError as error:
        log.warning("\n".join([error.message, *error.details]))
    try:
        left = existing(plan.run_id, timeout)
    except BorgLvmError as error:
        leftovers.append(f"cannot tell whether the snapshots are gone: {error.message}")
        return
    leftovers += [f"snapshot {name}" for name in left]


def _resume_origins(plan: Plan, log: Log, leftovers: list[str]) -> None:
    """Set going the origins that an `lvremove` which died half-way has left suspended."""
    for copy in plan.copies:
        try:
            if dm.set_going(copy.origin.dm_uuid):
                log.warning(f"resumed {copy.origin.full_name}, which lvremove had left suspended")
        except OSError as error:
            leftovers.append(f"{copy.origin.full_name} may stand still: {error.strerror}")
