"""A snapshot of a dataset while the command runs: it fills nothing of its own, but somebody may destroy it."""

from __future__ import annotations

from borg_lvm.linux.device_mapper import Fill
from borg_lvm.linux.subprocesses import Steps
from borg_lvm.planning.plan import Snapshot
from borg_lvm.planning.space.growth_policy import FillHistory, SnapshotStatistics
from borg_lvm.snapshots.zfs import library


def fill(snapshot: Snapshot) -> Fill:
    """Return whether a snapshot is there: it has a problem if not."""
    return Fill(0, 0) if library.is_there(snapshot.full_name) else Fill(0, 0, "somebody has destroyed it (zfs destroy)")


class MonitoredDataset:
    """A snapshot of a dataset (`provider.MonitoredSpace`)."""

    must_end = False
    not_before = 0.0

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def look(self, now: float) -> str:
        """Look; return why the command must end, or nothing."""
        return f"the snapshot of {self._snapshot.origin.full_name} is lost" if fill(self._snapshot).problem else ""

    def growth(self) -> Steps[None] | None:
        """Return nothing: the pool has no space set aside for it."""
        return None

    def courses(self) -> list[FillHistory]:
        """Return nothing: it does not fill."""
        return []

    def statistics(self) -> SnapshotStatistics:
        """Return nothing: there is nothing to be counted."""
        return SnapshotStatistics()
