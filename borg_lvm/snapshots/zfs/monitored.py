"""A snapshot of a dataset while the command runs: it fills nothing of its own, but somebody may destroy it."""

from __future__ import annotations

from borg_lvm.linux.device_mapper import Fill
from borg_lvm.planning.plan import Snapshot
from borg_lvm.snapshots.zfs import library


def fill(snapshot: Snapshot) -> Fill:
    """Return whether a snapshot is there: it has a problem if not."""
    return Fill(0, 0) if library.is_there(snapshot.full_name) else Fill(0, 0, "somebody has destroyed it (zfs destroy)")
