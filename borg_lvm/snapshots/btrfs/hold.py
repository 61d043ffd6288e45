"""A subvolume in the window: it cannot be held, so its snapshot is taken while all else is, and before all others.

By ioctl on descriptors, not by `btrfs subvolume snapshot`: nothing is started or looked up while volumes are suspended,
and no program of btrfs's is needed. What the snapshot shows lies between the beginning and the end of that call, and so
between the last suspend and the first resume: it has all that came before what any volume shows, and nothing that came
after.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import btrfs
from borg_lvm.planning.plan import Snapshot
from borg_lvm.snapshots.btrfs import calls, one_transaction, top_level
from borg_lvm.snapshots.provider import Hold, Prepared

_REMEDIES = {
    errno.ETXTBSY: "a swap file is in use in it: move that into a subvolume of its own, or: swapoff",
    errno.EROFS: "its btrfs is read-only: see dmesg",
    errno.ENOSPC: "make room in its btrfs (btrfs filesystem usage)",
    errno.EDQUOT: "its quota groups have no room left (btrfs qgroup show)",
}


@contextmanager
def prepared(group: Sequence[Snapshot]) -> Iterator[Prepared]:
    """Have the directory and the subvolume of each snapshot open. Raises: SnapshotError."""
    with ExitStack() as stack:
        opened = []
        for snapshot in group:
            assert snapshot.subvolume
            try:
                directory, source = stack.enter_context(top_level.made_ready(snapshot.subvolume))
                opened.append((snapshot, source))
            except OSError as error:
                raise _not_made(snapshot, error) from error
        if len(opened) == 1:
            yield _Ready(group, directory, calls.snapshot(directory, source, group[0].name))
            return
        try:
            together = stack.enter_context(one_transaction.prepared(directory, opened))
        except OSError as error:
            raise _not_made(group[0], error) from error
        yield _ReadyGroup(group, directory, together)


class SubvolumeHold:
    """A subvolume in the window (`provider.Hold`). The first one of a group takes the snapshots of all."""

    seconds = 0.0

    def __init__(self, snapshot: Snapshot, take: Callable[[], None] | None) -> None:
        self.name = snapshot.origin.full_name
        self._snapshot = snapshot
        self._take = take

    def suspend(self) -> None:
        """Do nothing: the kernel makes no snapshot in a btrfs that is frozen."""

    def appear(self) -> None:
        """Take the snapshots of the group, each in a transaction of the btrfs. Raises: SnapshotError."""
        if self._take:
            try:
                self._take()
            except OSError as error:
                raise _not_made(self._snapshot, error) from error

    def prove(self) -> None:
        """Do nothing: it was not held."""

    def resume(self) -> None:
        """Do nothing: it was not held."""

    def give_up(self) -> None:
        """Do nothing: it was not held, and a snapshot that was taken goes with the run."""


class _Ready:
    """A snapshot for which all is open (`provider.Prepared`)."""

    def __init__(self, group: Sequence[Snapshot], directory: int, take: Callable[[], None]) -> None:
        self._group = group
        self._directory = directory
        self._take = take

    @contextmanager
    def completed(self) -> Iterator[Sequence[Hold]]:
        """See `Prepared`. Nothing has had to wait."""
        yield [SubvolumeHold(snapshot, None if number else self._take) for number, snapshot in enumerate(self._group)]

    def prove(self) -> Mapping[str, str]:
        """See `Prepared`. The ledger needs no ids: what a run makes has its own name, in a directory of ours."""
        for snapshot in self._group:
            try:
                info = os.stat(snapshot.name, dir_fd=self._directory, follow_symlinks=False)
            except OSError as error:
                raise _not_made(snapshot, error) from error
            if info.st_ino != btrfs.SUBVOLUME_ROOT:
                raise SnapshotError(f"{snapshot.full_name} is no subvolume: somebody else has made it")
        return {}

    def transactions(self) -> Mapping[str, int]:
        """See `Prepared`. A snapshot is alone in its window, with what is held."""
        return {}


class _ReadyGroup(_Ready):
    """Snapshots of several subvolumes of one btrfs, for which all is open."""

    def __init__(self, group: Sequence[Snapshot], directory: int, together: one_transaction.SubvolumeGroup) -> None:
        super().__init__(group, directory, together.take)
        self._together = together
        self._transaction = 0

    @contextmanager
    def completed(self) -> Iterator[Sequence[Hold]]:
        """See `Prepared`."""
        with self._together.waiting(), super().completed() as holds:
            yield holds

    def prove(self) -> Mapping[str, str]:
        """See `Prepared`: all are of one transaction. Raises, too: BusyError when they are not."""
        try:
            self._transaction = self._together.settle()
        except OSError as error:
            raise _not_made(self._group[0], error) from error
        return super().prove()

    def transactions(self) -> Mapping[str, int]:
        """See `Prepared`."""
        return {snapshot.origin.full_name: self._transaction for snapshot in self._group}


def _not_made(snapshot: Snapshot, error: OSError) -> SnapshotError:
    message = f"the kernel did not make the snapshot of {snapshot.origin.full_name}: {os.strerror(error.errno or 0)}"
    return SnapshotError(message, remedy=_REMEDIES.get(error.errno or 0, ""))
