"""What has been compared so far of what was saved, and what differs. Pure."""

from __future__ import annotations

from collections.abc import Callable

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.records import dataclass, field
from borg_lvm.reporting.proof import MOST, Difference, Proof, State


@dataclass
class Tally:
    """What has been compared so far, and what differs; `show` is called now and then with itself."""

    show: Callable[[Tally], None]
    archives: list[str] = field(default_factory=list)
    entries: int = 0
    files: int = 0
    bytes: int = 0
    live: int = 0
    count: int = 0
    differences: list[Difference] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def differs(self, path: str, what: str) -> None:
        """Take note of a difference in the archive that is being read.

        The first of each path is named, of a few; and one of each archive, for what is not named is not marked.
        """
        self.count += 1
        archive = self.archives[-1]
        known = [difference.path for difference in self.differences if difference.archive == archive]
        if not known or (len(self.differences) < MOST and (not path or path not in known)):
            self.differences.append(Difference(archive, path, what))

    def leaves(self, what: str) -> None:
        """Take note of what cannot be compared: once, however often that is found."""
        if what not in self.unchecked:
            self.unchecked.append(what)

    def proof(self, planned: PlannedProof, state: State, seconds: float, why: str = "") -> Proof:
        """Return the result."""
        state = "differs" if self.count else state
        return Proof(
            planned.mode, state, planned.seed, seconds, tuple(self.archives), self.entries, self.files, self.bytes,
            self.live, tuple(self.differences), self.count, why, tuple(self.unchecked),
        )  # fmt: skip
