"""A run whose process is gone, and what its ledger records of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from borg_lvm.planning.ownership import RecordedSnapshots
from borg_lvm.records import dataclass, field

if TYPE_CHECKING:
    from borg_lvm.state import ledger


@dataclass(frozen=True)
class Dead:
    """A run whose process is gone, and what is left of it: snapshots (`vg/lv`) and what its ledger records.

    `kept`: they were to be kept, and may be removed all the same. `others` are snapshots of which LVM knows nothing.
    """

    run_id: str
    snapshots: tuple[str, ...]
    entry: ledger.LedgerEntry | None = field(default=None)
    kept: bool = False
    others: tuple[str, ...] = ()

    @property
    def known(self) -> RecordedSnapshots:
        """What the run has written down of its snapshots."""
        return known(self.entry)

    @property
    def began(self) -> int | None:
        """When its process was started, in clock ticks since boot; None if that is not known."""
        return self.entry.owner.start if self.entry and self.entry.owner else None

    def facts(self, step: str, fact: str) -> list[str]:
        """Return one fact of all the ledger's steps of a name, each once."""
        if self.entry is None:
            return []
        return list(dict.fromkeys(str(line[fact]) for line in self.entry.named(step)))


def known(entry: ledger.LedgerEntry | None) -> RecordedSnapshots:
    """Return what a run has written down of its snapshots; nothing without a ledger."""
    if entry is None:
        return RecordedSnapshots()
    names = (str(step["name"]) for step in entry.named("snapshot"))
    return RecordedSnapshots(frozenset(names), frozenset(str(step["uuid"]) for step in entry.named("made")))
