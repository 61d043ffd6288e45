"""Who takes snapshots: LVM of volumes, btrfs of subvolumes that lie on none. The one door to them."""

from __future__ import annotations

from functools import cache

from borg_lvm.linux import btrfs
from borg_lvm.snapshots.provider import Provider


def provider() -> Provider:
    """Return who serves all mounts. What it needs is imported by the first call, which is never in a window."""
    return _both() if btrfs.mounted() else _lvm()


@cache
def _lvm() -> Provider:
    from borg_lvm.snapshots.lvm.provider import LvmProvider

    return LvmProvider()


@cache
def _both() -> Provider:
    from borg_lvm.snapshots.btrfs.provider import BtrfsProvider
    from borg_lvm.snapshots.together import Together

    return Together(BtrfsProvider(), _lvm())
