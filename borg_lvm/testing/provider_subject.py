"""What the contract of providers needs: volumes of one provider, and how they are reached without it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from borg_lvm.log import Log
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.snapshots.provider import Provider
from borg_lvm.state.dead_run import Dead


class ProviderSubject(ABC):
    """Volumes that really are there, each with a file system that is mounted, and nothing else of borg-lvm's.

    What returns False by itself says that this cannot happen to a snapshot; the tests for it are then skipped.
    """

    provider: Provider
    log = Log(quiet=True)
    holds = True
    """Whether any of the volumes is held for the instant."""

    @abstractmethod
    def plan(self) -> Plan:
        """Return the plan of a new run that snapshots all of the volumes together, each in little space."""

    @abstractmethod
    def foreign(self) -> str:
        """Return a mount point that the provider does not serve."""

    def wake(self, snapshot: Snapshot) -> bool:
        """Have the volume of a snapshot go on behind the provider's back, as an administrator would."""
        return False

    def lose(self, snapshot: Snapshot) -> bool:
        """Have the space of a snapshot overflow, or whatever else makes it unreadable."""
        return False

    @abstractmethod
    def dead(self, run_id: str) -> Sequence[Dead]:
        """Return what a dead run has left, as `borg-lvm clean` finds it now."""

    @abstractmethod
    def leftovers(self) -> Sequence[str]:
        """Return what is there now and was not in the beginning: devices, volumes, mounts, suspended devices."""
