"""What the next snapshot of a volume will need, from what those of the last runs have used. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from borg_lvm.records import dataclass

RUNS = 5
"""So many of the latest runs of a volume count."""
SAFETY = 1.5
"""So much more than is expected is made. A run that needs still more grows."""
MOST_MORE = 1.6
"""By so much at most a busy hour raises what is expected: with the above, 2.4 times what was used."""
LVM_CHUNK = 4 << 10
"""Bytes in a chunk of a snapshot unless LVM is asked for others, and the least that it makes. Source: lvcreate(8)."""


@dataclass(frozen=True)
class Once:
    """What one run has seen of a volume: how long the command ran, and how the space of its snapshot was used.

    `space` is what there was at the end. `written` are the bytes written to the volume meanwhile, with those written
    twice, in `count` requests, none of which reached beyond one of the chunks of so many bytes (`chunk`). `lost`: the
    snapshot was, and would have wanted so many bytes (`wanted`), as the run has said.
    """

    seconds: float
    used: int
    space: int
    lost: bool = False
    written: int = 0
    chunk: int = LVM_CHUNK
    count: int = 0
    wanted: int = 0

    @property
    def needed(self) -> int:
        """How much this run would have needed: at least, if its snapshot was lost."""
        return 2 * self.space if self.lost else self.used

    @property
    def enough(self) -> int:
        """The bytes with which a run that has lost its snapshot would probably not have."""
        return self.wanted or self.needed

    @property
    def mean(self) -> float:
        """How many bytes its requests had on average, 0 if nobody knows."""
        return self.written / self.count if self.count else 0.0


@dataclass(frozen=True)
class Expected:
    """How many bytes to make, how many are expected to be used, and why."""

    size: int
    used: int
    why: str


def expected(past: Sequence[Once], speed: float, chunks: str = "") -> Expected | None:
    """Return what a snapshot will need; None if nothing is known. `past` is oldest first.

    `chunks` are words for others than those which the runs have had.

    `speed` is how many bytes per second are written to the volume now. What is expected is the most that one of the
    last runs has used; or, if that is more, the highest of their rates times the longest of their times, or what a
    volume needs that is busier now than it was then.
    """
    latest = past[-RUNS:]
    if not latest:
        return None
    most = max(run.needed for run in latest)
    longest = max(run.seconds for run in latest)
    by_rate = max(run.needed / max(run.seconds, 1.0) for run in latest) * longest
    then = max(run.written / max(run.seconds, 1.0) for run in latest)
    busier = speed / then if then else 1.0
    used = int(min(most * MOST_MORE, max(most, by_rate, most * busier)))
    last, many = len(latest) == 1, f"of the last {len(latest)} runs"
    if any(run.lost and run.needed == most for run in latest):
        why = f"{'the last run' if last else f'one {many}'} has lost its snapshot, and may have needed {{}}{chunks}"
        return Expected(int(used * SAFETY), most, why)
    verb, more = "would have used" if chunks else "used", ""
    if used > most:
        more = ", and the volume is busier now" if busier * most > by_rate else ", and a longer run may use more"
    why = f"{'the last run' if last else f'the fullest {many}'} {verb} {{}}{chunks}{more}"
    return Expected(int(used * SAFETY), most, why)
