"""Volumes of LVM for the contract of providers: a thick and a thin one, each with an ext4."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from borg_lvm.config.schema import Settings
from borg_lvm.config.sections import SnapshotSettings
from borg_lvm.config.size import Size
from borg_lvm.machine import lvm
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.session import cleanup
from borg_lvm.session.survey import Question, survey
from borg_lvm.snapshots.provider import Provider
from borg_lvm.snapshots.providers import closed
from borg_lvm.state import ledger
from borg_lvm.state.dead_run import Dead
from borg_lvm.testing.provider_subject import ProviderSubject
from tests.rig import Rig
from tests.rig.tools import run
from tests.rig.volumes import resume

SPACE = 4 << 20
"""Bytes of a thick snapshot."""


class LvmSubject(ProviderSubject):
    """A thick and a thin volume of a rig's. It may be used for many tests, one after the other."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.volumes = [
            rig.volume("thick", fs="ext4", mib=32, at=rig.path("thick")),
            rig.volume("thin", kind="thin", fs="ext4", mib=32, at=rig.path("thin")),
        ]

    def of(self, provider: Provider) -> LvmSubject:
        """Return it with another provider, and without the files of tests before."""
        self.provider = provider
        for volume in self.volumes:
            assert volume.at
            for file in volume.at.iterdir():
                if file.is_file():
                    file.unlink()
        return self

    def plan(self) -> Plan:
        settings = replace(Settings(), snapshot=replace(SnapshotSettings(), size=Size("bytes", SPACE)))
        paths = tuple(str(one.at) for one in self.volumes)
        with closed():
            return survey(Question(("true",), "/", paths), settings).plan

    def foreign(self) -> str:
        return "/dev/shm"

    def wake(self, snapshot: Snapshot) -> bool:
        run("dmsetup", "resume", snapshot.origin_dm_name)
        return True

    def wake_all(self) -> None:
        """Have all volumes go on, whatever a wrong provider has left."""
        resume(self.volumes[0].group)

    def lose(self, snapshot: Snapshot) -> bool:
        if not snapshot.extents:
            return False
        with Path(snapshot.mounted_at, "much").open("wb") as file:
            file.write(os.urandom(3 * SPACE))
            os.fsync(file.fileno())
        return True

    def dead(self, run_id: str) -> Sequence[Dead]:
        return cleanup.dead_runs(lvm.report(60.0, hidden=True), ledger.entries(), run_id)

    def leftovers(self) -> Sequence[str]:
        return self._rig.leftovers()
