"""A snapshot of a subvolume while the command runs: it fills nothing of its own, but somebody may delete it."""

from __future__ import annotations

import os

from borg_lvm.errors import SnapshotError
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.linux.subprocesses import Steps
from borg_lvm.planning.plan import Snapshot
from borg_lvm.planning.space.growth_policy import FillHistory, SnapshotStatistics
from borg_lvm.snapshots.btrfs import top_level


def fill(snapshot: Snapshot) -> Fill:
    """Return whether a snapshot is there: it has a problem if not."""
    assert snapshot.subvolume
    try:
        with top_level.directory(snapshot.subvolume.device, snapshot.subvolume.file_system) as directory:
            os.stat(snapshot.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return Fill(0, 0, "somebody has deleted it (btrfs subvolume delete)")
    except (OSError, SnapshotError) as error:
        return Fill(0, 0, f"it cannot be read: {error}")
    return Fill(0, 0)


class MonitoredSubvolume:
    """A snapshot of a subvolume (`provider.MonitoredSpace`). Nothing stays open between two looks."""

    must_end = False
    not_before = 0.0

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def look(self, now: float) -> str:
        """Look; return why the command must end, or nothing."""
        return f"the snapshot of {self._snapshot.origin.full_name} is lost" if fill(self._snapshot).problem else ""

    def growth(self) -> Steps[None] | None:
        """Return nothing: the file system has no space set aside for it."""
        return None

    def courses(self) -> list[FillHistory]:
        """Return nothing: it does not fill."""
        return []

    def statistics(self) -> SnapshotStatistics:
        """Return nothing: there is nothing to be counted."""
        return SnapshotStatistics()
