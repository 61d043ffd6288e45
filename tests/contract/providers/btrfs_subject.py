"""Subvolumes of btrfs for the contract of providers: one or two, alone and beside a volume of LVM's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from borg_lvm.planning.plan import Snapshot
from tests.contract.providers.apart_subject import ApartSubject
from tests.rig import Rig
from tests.rig.native import Native
from tests.rig.tools import run
from tests.rig.volumes import Volume


class SubvolumeSubject(ApartSubject):
    """Subvolumes of a btrfs on two disks, mounted `at` places; one, if none are named."""

    def __init__(self, rig: Rig, native: Native, beside: Volume | None = None, at: Sequence[Path] = ()) -> None:
        super().__init__(rig, at or [native.at], beside)
        self._native = native

    def destroy(self, snapshot: Snapshot) -> None:
        with self._native.top() as top:
            run("btrfs", "subvolume", "delete", str(top / ".borg-lvm" / snapshot.name))

    def snapshots(self) -> Sequence[str]:
        return self._native.snapshots()
