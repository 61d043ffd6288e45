"""A snapshot of a subvolume while the command runs: it fills nothing of its own, but somebody may delete it."""

from __future__ import annotations

import os

from borg_lvm.errors import SnapshotError
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.planning.plan import Snapshot
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
