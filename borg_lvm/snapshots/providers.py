"""Who takes snapshots: LVM of volumes, btrfs of subvolumes and ZFS of datasets. The one door to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from borg_lvm.linux import btrfs
from borg_lvm.machine import zfs_datasets
from borg_lvm.snapshots.provider import Provider


def provider() -> Provider:
    """Return who serves all mounts. What it needs is imported by the first call, which is never in a window."""
    has_btrfs, has_zfs = bool(btrfs.mounted()), zfs_datasets.imported()
    return _together(has_btrfs, has_zfs) if has_btrfs or has_zfs else _lvm()


@contextmanager
def closed() -> Iterator[None]:
    """Have all that looks have left waiting for snapshots ended with the block."""
    try:
        yield
    finally:
        if _lvm.cache_info().currsize:  # else nobody has looked: a command line that is refused needs no provider
            provider().close()


@cache
def _lvm() -> Provider:
    from borg_lvm.snapshots.lvm.provider import LvmProvider

    return LvmProvider()


@cache
def _btrfs() -> Provider:
    from borg_lvm.snapshots.btrfs.provider import BtrfsProvider

    return BtrfsProvider()


@cache
def _zfs() -> Provider:
    from borg_lvm.snapshots.zfs.provider import ZfsProvider

    return ZfsProvider()


@cache
def _together(has_btrfs: bool, has_zfs: bool) -> Provider:
    from borg_lvm.snapshots.together import Together

    others = {"subvolume": _btrfs()} if has_btrfs else {}
    return Together(others | ({"dataset": _zfs()} if has_zfs else {}), _lvm())
