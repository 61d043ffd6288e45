"""A subvolume in the window: it cannot be held, so its snapshot is taken while all else is, and before all others.

By ioctl on descriptors, not by `btrfs subvolume snapshot`: nothing is started or looked up while volumes are suspended,
and no program of btrfs's is needed. What the snapshot shows lies between the beginning and the end of that call, and so
between the last suspend and the first resume: it has all that came before what any volume shows, and nothing that came
after.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import btrfs
from borg_lvm.planning.plan import Snapshot
from borg_lvm.snapshots.btrfs import calls, top_level
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
        holds = []
        for snapshot in group:
            assert snapshot.subvolume
            try:
                holds.append(SubvolumeHold(snapshot, *stack.enter_context(top_level.made_ready(snapshot.subvolume))))
            except OSError as error:
                raise _not_made(snapshot, error) from error
        yield _Ready(holds)


class SubvolumeHold:
    """A subvolume in the window (`provider.Hold`), its one call prepared."""

    seconds = 0.0

    def __init__(self, snapshot: Snapshot, directory: int, source: int) -> None:
        self.name = snapshot.origin.full_name
        self._snapshot = snapshot
        self._directory = directory
        self._make = calls.snapshot(directory, source, snapshot.name)

    def suspend(self) -> None:
        """Do nothing: the kernel makes no snapshot in a btrfs that is frozen."""

    def appear(self) -> None:
        """Take the snapshot, in one transaction of the btrfs. Raises: SnapshotError."""
        try:
            self._make()
        except OSError as error:
            raise _not_made(self._snapshot, error) from error

    def prove(self) -> None:
        """Do nothing: it was not held."""

    def resume(self) -> None:
        """Do nothing: it was not held."""

    def give_up(self) -> None:
        """Do nothing: it was not held, and a snapshot that was taken goes with the run."""

    def look(self) -> None:
        """See that the snapshot is there, and a subvolume. Raises: SnapshotError."""
        try:
            info = os.stat(self._snapshot.name, dir_fd=self._directory, follow_symlinks=False)
        except OSError as error:
            raise _not_made(self._snapshot, error) from error
        if info.st_ino != btrfs.SUBVOLUME_ROOT:
            raise SnapshotError(f"{self._snapshot.full_name} is no subvolume: somebody else has made it")


class _Ready:
    """Snapshots for which all is open (`provider.Prepared`)."""

    def __init__(self, holds: Sequence[SubvolumeHold]) -> None:
        self._holds = holds

    @contextmanager
    def completed(self) -> Iterator[Sequence[Hold]]:
        """See `Prepared`. Nothing has had to wait."""
        yield self._holds

    def prove(self) -> Mapping[str, str]:
        """See `Prepared`. The ledger needs no ids: what a run makes has its own name, in a directory of ours."""
        for hold in self._holds:
            hold.look()
        return {}

    def transactions(self) -> Mapping[str, int]:
        """See `Prepared`. Each snapshot is alone in its window, with what is held."""
        return {}


def _not_made(snapshot: Snapshot, error: OSError) -> SnapshotError:
    message = f"the kernel did not make the snapshot of {snapshot.origin.full_name}: {os.strerror(error.errno or 0)}"
    return SnapshotError(message, remedy=_REMEDIES.get(error.errno or 0, ""))
