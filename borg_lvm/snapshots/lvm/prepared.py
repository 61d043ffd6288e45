"""LVM's snapshots of a group of volumes, made ready for the window: by LVM (`create.py`), then by us (`arm.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from borg_lvm.errors import BusyError
from borg_lvm.planning.plan import Snapshot
from borg_lvm.snapshots.lvm import arm
from borg_lvm.snapshots.lvm.arm import Member
from borg_lvm.snapshots.lvm.create import Creator, Made, Written
from borg_lvm.snapshots.lvm.hold import VolumeHold
from borg_lvm.snapshots.lvm.shell import KeptShell
from borg_lvm.snapshots.provider import Hold, Prepared, RunContext

PATIENCE = 2.0
"""Seconds to wait for another command of LVM's while applications are quiesced; they may use LVM themselves until
then."""


@contextmanager
def prepared(run: RunContext, group: Sequence[Snapshot], fds: Sequence[int], kept: KeptShell) -> Iterator[Prepared]:
    """Make all ready for a window, as `Provider.prepared`. The shell ends before anything is held.

    Raises: SnapshotError, BusyError, ProgramError.
    """
    creator = Creator(run.plan, run.watchdog, run.ledger, run.deadline, run.timeout)
    with ExitStack() as stack:
        with kept.last(run.timeout) as ours:
            created = creator.create(group, ours)
            with created.locked(run.timeout):
                written = created.written(run.timeout)
                members = stack.enter_context(arm.armed(created, written, fds, run.ledger, run.timeout))
        yield _Armed(created, written, members, run.timeout)


class _Armed:
    """Snapshots of which LVM and the kernel know all that they may know before the window (`provider.Prepared`)."""

    def __init__(self, created: Made, written: Sequence[Written], members: Sequence[Member], timeout: float) -> None:
        self._created = created
        self._written = written
        self._members = members
        self._timeout = timeout

    @contextmanager
    def completed(self) -> Iterator[Sequence[Hold]]:
        """See `Prepared`. LVM's lock is held in the block."""
        created = self._created
        with created.locked(PATIENCE):
            # The kernel knows nothing of thin ones yet.
            if created.is_thin and not created.is_still(self._written, self._timeout):
                raise BusyError("another command has changed the thin snapshots meanwhile", remedy="run it again")
            self._members = arm.complete(self._members)
            yield [VolumeHold(member) for member in self._members]

    def prove(self) -> Mapping[str, str]:
        """See `Prepared`. Thin ones are activated."""
        arm.prove(self._members)
        return {member.snapshot.full_name: member.uuid for member in self._members}

    def transactions(self) -> Mapping[str, int]:
        """See `Prepared`. A volume has none: it was held."""
        return {}
