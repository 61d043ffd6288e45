"""Datasets of ZFS for the contract of providers: two of one pool, and the same beside a volume of LVM's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from borg_lvm.planning.plan import Snapshot
from tests.contract.providers.apart_subject import ApartSubject
from tests.rig import Rig
from tests.rig.tools import run
from tests.rig.volumes import Volume
from tests.rig.zpool import Pool


class DatasetSubject(ApartSubject):
    """Two datasets of a pool."""

    def __init__(self, rig: Rig, pool: Pool, at: Sequence[Path], beside: Volume | None = None) -> None:
        super().__init__(rig, at, beside)
        self._pool = pool

    def destroy(self, snapshot: Snapshot) -> None:
        run("zfs", "release", "borg-lvm", snapshot.full_name)
        run("zfs", "destroy", snapshot.full_name)

    def snapshots(self) -> Sequence[str]:
        return self._pool.snapshots()
