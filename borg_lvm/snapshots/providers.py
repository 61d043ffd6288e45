"""Who takes snapshots: LVM, of all volumes of a plan. The one door to a provider."""

from __future__ import annotations

from functools import cache

from borg_lvm.snapshots.provider import Provider


@cache
def provider() -> Provider:
    """Return who serves all mounts. What it needs is imported by the first call, which is never in a window."""
    from borg_lvm.snapshots.lvm.provider import LvmProvider

    return LvmProvider()
