"""What the contract of providers is tried on where snapshots are apart from LVM's, maybe beside a volume of LVM's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

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
from tests.rig.volumes import Volume, resume

SPACE = 4 << 20
"""Bytes of a thick snapshot."""


class ApartSubject(ProviderSubject):
    """File systems that cannot be held, mounted `at` places, and a volume `beside` them; for many tests, one by one."""

    def __init__(self, rig: Rig, at: Sequence[Path], beside: Volume | None = None) -> None:
        self._rig = rig
        self._at = tuple(at)
        self._beside = beside
        self.holds = beside is not None

    def of(self, provider: Provider) -> Self:
        """Return it with another provider, and without the files of tests before."""
        self.provider = provider
        for place in self._places():
            for file in place.iterdir():
                if file.is_file():
                    file.unlink()
        return self

    def _places(self) -> list[Path]:
        return [*self._at, *([self._beside.at] if self._beside and self._beside.at else [])]

    def plan(self) -> Plan:
        settings = replace(Settings(), snapshot=replace(SnapshotSettings(), size=Size("bytes", SPACE)))
        paths = tuple(map(str, self._places()))
        with closed():
            return survey(Question(("true",), "/", paths), settings).plan

    def foreign(self) -> str:
        return "/dev/shm"

    def wake(self, snapshot: Snapshot) -> bool:
        if snapshot.hold == "none":
            return False
        run("dmsetup", "resume", snapshot.origin_dm_name)
        return True

    def wake_all(self) -> None:
        """Have all volumes go on, whatever a wrong provider has left."""
        if self._beside:
            resume(self._beside.group)

    def lose(self, snapshot: Snapshot) -> bool:
        if snapshot.hold != "none":
            return False
        self.destroy(snapshot)
        return True

    def dead(self, run_id: str) -> Sequence[Dead]:
        named = self.provider.named()
        return cleanup.dead_runs(lvm.report(60.0, hidden=True), ledger.entries(), run_id, named)

    def leftovers(self) -> Sequence[str]:
        return [*self._rig.leftovers(), *self.snapshots()]

    @abstractmethod
    def destroy(self, snapshot: Snapshot) -> None:
        """Destroy a snapshot, as an administrator would."""

    @abstractmethod
    def snapshots(self) -> Sequence[str]:
        """Return all snapshots that there are."""
