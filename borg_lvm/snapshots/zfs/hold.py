"""The datasets of one pool in the window: they cannot be held, so they are snapshotted while all else is, and first.

By one call of ZFS's library, not by `zfs snapshot`: nothing is started or looked up while volumes are suspended. The
snapshots are of one group of transactions of the pool, which has all that was written before the call and nothing that
was written after it, in whatever dataset.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from borg_lvm.errors import SnapshotError
from borg_lvm.machine import zfs_datasets
from borg_lvm.machine.zfs_datasets import RUN_PROPERTY
from borg_lvm.planning.plan import Snapshot
from borg_lvm.snapshots.provider import Hold, Prepared, RunContext
from borg_lvm.snapshots.zfs import library

_TRANSACTION = "createtxg"
_REMEDIES = {
    errno.EROFS: "its pool is read-only: see zpool status",
    errno.ENOSPC: "make room in its pool (zpool list, zfs list -o space)",
    errno.EDQUOT: "its quota leaves no room, or its snapshot_limit is reached (zfs get quota,snapshot_limit)",
    errno.ENOENT: "somebody has destroyed or renamed the dataset: see zpool history",
}


@contextmanager
def prepared(run: RunContext, group: Sequence[Snapshot]) -> Iterator[Prepared]:
    """Have all ready for one call that takes the snapshots of a group. Raises: SnapshotError."""
    names = [snapshot.full_name for snapshot in group]
    with library.taking(names, {RUN_PROPERTY: run.plan.run_id}) as take:
        yield _Ready(run, group, take)


class DatasetHold:
    """A dataset in the window (`provider.Hold`). The first one of a group takes the snapshots of all."""

    seconds = 0.0

    def __init__(self, snapshot: Snapshot, take: Callable[[], None] | None) -> None:
        self.name = snapshot.origin.full_name
        self._take = take

    def suspend(self) -> None:
        """Do nothing: ZFS has no freeze, and needs none."""

    def appear(self) -> None:
        """Take all snapshots of the group, in one group of transactions. Raises: SnapshotError."""
        if self._take:
            try:
                self._take()
            except OSError as error:
                raise _not_made(self.name, error) from error

    def prove(self) -> None:
        """Do nothing: it was not held. That the group shows one moment is proven when all goes on again."""

    def resume(self) -> None:
        """Do nothing: it was not held."""

    def give_up(self) -> None:
        """Do nothing: it was not held, and snapshots that were taken go with the run."""


class _Ready:
    """Snapshots of which the call is prepared (`provider.Prepared`)."""

    def __init__(self, run: RunContext, group: Sequence[Snapshot], take: Callable[[], None]) -> None:
        self._run = run
        self._group = group
        self._take = take
        self._transactions: dict[str, int] = {}

    @contextmanager
    def completed(self) -> Iterator[Sequence[Hold]]:
        """See `Prepared`. The pool writes what waits, so that the window waits for little."""
        for pool in dict.fromkeys(snapshot.origin.pool for snapshot in self._group):
            try:
                library.write_out(pool)
            except OSError as error:
                raise SnapshotError(
                    f"the pool {pool} does not write what waits: {error.strerror}", remedy=f"zpool status {pool}"
                ) from error
        yield [DatasetHold(snapshot, None if number else self._take) for number, snapshot in enumerate(self._group)]

    def prove(self) -> Mapping[str, str]:
        """See `Prepared`: hold each, and see that all are ours and of one group of transactions.

        The ledger needs no ids: what a run makes bears its name and its property.
        """
        names = [snapshot.full_name for snapshot in self._group]
        try:
            library.hold(names)
        except OSError as error:
            raise _not_made(names[0], error) from error
        read = zfs_datasets.properties_of(names, (_TRANSACTION, RUN_PROPERTY), self._run.timeout)
        number = judge(names, self._run.plan.run_id, read)
        self._transactions = {snapshot.origin.full_name: number for snapshot in self._group}
        return {}

    def transactions(self) -> Mapping[str, int]:
        """See `Prepared`."""
        return self._transactions


def judge(names: Sequence[str], run_id: str, read: Mapping[tuple[str, str], str]) -> int:
    """Return the group of transactions that all snapshots are of. Pure.

    Raises: SnapshotError when one is not ours, or of another group.
    """
    for name in names:
        if read.get((name, RUN_PROPERTY)) != run_id:
            raise SnapshotError(f"{name} does not have the property {RUN_PROPERTY}: somebody else has made it")
    numbers = {name: read.get((name, _TRANSACTION), "") for name in names}
    number, *others = set(numbers.values())
    if others or not number.isdecimal():
        what = ", ".join(f"{name} {number}" for name, number in numbers.items())
        raise SnapshotError(
            f"the snapshots are not of one group of transactions ({_TRANSACTION}): {what}",
            remedy="report this, with what zpool history -il says of the pool",
        )
    return int(number)


def _not_made(name: str, error: OSError) -> SnapshotError:
    message = f"ZFS did not make the snapshot of {name}: {os.strerror(error.errno or 0)}"
    return SnapshotError(message, remedy=_REMEDIES.get(error.errno or 0, ""))
