"""How large the chunks are in which a thick snapshot keeps what is overwritten. Pure.

While a snapshot exists the kernel splits every write to its origin at the borders of chunks, also where all has been
copied before; and it copies whole chunks, and writes a chunk of its table for each. With LVM's 4 KiB a write of 1 MiB
becomes 256 requests; with 256 KiB one of 4 KiB copies 64 times as much. So `auto` takes the largest at which not much
more is copied than is written, by what past runs have copied, and by how large writes are. One step at a time where
only the next run can show it, but to where it can cost no more than a tenth of the volume.

Source: Linux, drivers/md/dm-snap.c (origin_map, __origin_write), dm-snap-persistent.c; lvcreate(8), `--chunksize`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from borg_lvm.planning.space.usage_estimate import LVM_CHUNK, RUNS, Once
from borg_lvm.records import dataclass, field

SIZES = tuple(LVM_CHUNK << power for power in range(8))
"""What LVM makes: 4 to 512 KiB. Source: lvcreate(8)."""
AUTO = tuple(size for size in SIZES if size <= 256 << 10)
"""What `auto` takes. With more, a write of 1 MiB would be two requests instead of four."""
LIMIT, ROTATING = 2.1, 3.1
"""So many times what is written may be copied: twice, and the tables; on a rotating disk, where a seek costs more than
a larger chunk, three times."""
WHOLE = 10
"""Per cent of a volume that its snapshot may use without anybody looking at how large its chunks are."""
BLOCK = 4 << 10
"""Bytes at whose multiples file systems and databases write."""
FILLED = 0.75
"""From this part of a chunk on, the mean request of a run may have been split: then it was larger than it seems."""
EVIDENCE = 16 << 20
"""Bytes that must have been written for a run to say how a volume is written."""
KNOWN, KNOWN_BYTES = 1000, 64 << 20
"""So many writes, or bytes in fewer large ones, say how large the writes to a volume are."""


@dataclass(frozen=True)
class Writes:
    """The writes to a device since it is there: how many requests, and their bytes."""

    count: int = 0
    size: int = 0

    @property
    def mean(self) -> float:
        """How many bytes a write has on average; 0 while there were too few to say."""
        return self.size / self.count if self.count >= KNOWN or self.size >= KNOWN_BYTES else 0.0


@dataclass(frozen=True)
class Pattern:
    """How a volume of so many bytes is written: the last runs, oldest first, and all writes of which the kernel knows.

    `rotational`: some of it lies on a rotating disk.
    """

    size: int
    past: Sequence[Once] = ()
    writes: Writes = field(default_factory=Writes)
    rotational: bool = False

    @property
    def limit(self) -> float:
        """So many times what is written may be copied."""
        return ROTATING if self.rotational else LIMIT


@dataclass(frozen=True)
class Reckoning:
    """The numbers behind a chunk that was chosen; copied is how many bytes for each that is written, about.

    `mean` is how many bytes a write has on average, `past_copied` what the last runs have copied, each 0 where it is
    not known; `copied` is with this chunk, `copied_larger` with one twice as large, 0 if `auto` takes none.
    """

    mean: float
    past_copied: float
    copied: float
    copied_larger: float


@dataclass(frozen=True)
class Chunk:
    """The chunk of a snapshot, in bytes, and why it is that; `best` is what it would be if there were more space."""

    size: int = LVM_CHUNK
    why: str = ""
    best: int = 0
    reckoning: Reckoning | None = None


def auto(pattern: Pattern, most: int = AUTO[-1]) -> Chunk:
    """Return the largest chunk that is good for a volume, of `most` bytes at most."""
    larger = [size for size in AUTO[1:] if size <= most and _is_good(pattern, size)]
    if copied(pattern, LVM_CHUNK) is None:
        return Chunk(LVM_CHUNK, "auto: LVM's default, for it is not known yet how the volume is written")
    chosen = max(larger, default=LVM_CHUNK)
    reckoning = _reckoning(pattern, chosen)
    why = "auto: it suits how the volume is written"
    if 0 < reckoning.copied_larger <= pattern.limit:
        why = "auto: it suits how the volume is written; the next runs may take larger ones"
    return Chunk(chosen, why, chosen, reckoning)


def smaller(pattern: Pattern, most: int) -> Chunk:
    """Return the best chunk for a volume of at most `most` bytes, where there is no space for the best of all."""
    best, chunk = auto(pattern).size, auto(pattern, most)
    why = f"auto: {best // 1024} KiB would suit better, but there is too little space"
    return replace(chunk, why=why, best=best) if chunk.size < best else chunk


def copied(pattern: Pattern, chunk: int) -> float | None:
    """Return how many bytes will be copied for each that is written, about; None if nothing is known.

    The most of what the runs say that count, else by the mean write.
    """
    mean = pattern.writes.mean
    if evidence := _evidence(pattern.past):
        return max(_copied_like(run, chunk, mean) for run in evidence)
    return _spread(mean, chunk) if mean else None


def as_if(pattern: Pattern, chunk: int) -> list[Once]:
    """Return the last runs as they would have been with chunks of another size, about."""
    often = copied(pattern, chunk) if _evidence(pattern.past) else None

    def needed(run: Once) -> int:
        most = _most_needed(run, chunk)
        return most if often is None or not run.written else min(most, max(run.needed, int(run.written * often)))

    return [_with(run, chunk, needed(run)) for run in pattern.past[-RUNS:]]


def at_worst(pattern: Pattern, chunk: int) -> int:
    """Return how many bytes one of the last runs would have used at most with chunks of another size.

    Whatever its writes were like. One that is followed by another with larger chunks, and with as many writes, is
    judged by that.
    """
    return max((_most_needed(run, chunk) for run in _unsurpassed(pattern.past[-RUNS:])), default=0)


def largest_for(space: int) -> int:
    """Return the largest chunk with which a space of so many bytes is still a fair number of chunks."""
    return max((size for size in SIZES if size * 64 <= space), default=LVM_CHUNK)


def _is_good(pattern: Pattern, chunk: int) -> bool:
    often = copied(pattern, chunk)
    if often is None or often > pattern.limit:
        return False
    would = as_if(pattern, chunk)
    pairs = zip(pattern.past[-RUNS:], would, strict=True)
    known = [(run.needed, other.needed) for run, other in pairs if run.written >= EVIDENCE]
    return all(needs <= max(2 * needed, pattern.size * WHOLE // 100) for needed, needs in known)


def _evidence(past: Sequence[Once]) -> list[Once]:
    """Return the runs that say how often is copied what is written."""
    return _unsurpassed([run for run in past[-RUNS:] if run.written >= EVIDENCE])


def _unsurpassed(runs: Sequence[Once]) -> list[Once]:
    """Return the runs that no later one with larger chunks knows better than, from about as many writes."""

    def better(later: Once, run: Once) -> bool:
        return later.chunk > run.chunk and later.written >= max(EVIDENCE, run.written // 4)

    return [run for number, run in enumerate(runs) if not any(better(later, run) for later in runs[number + 1 :])]


def _copied_like(run: Once, chunk: int, mean: float) -> float:
    """Return how many bytes are copied for each that is written in a run like that; `mean` is that of all writes."""
    seen = run.needed / run.written
    if chunk <= run.chunk:
        return seen if chunk == run.chunk or not run.mean else min(seen, _spread(run.mean, chunk))
    own = run.mean if run.mean < FILLED * run.chunk else max(run.mean, mean)
    most = seen * chunk / run.chunk
    return min(most, seen + (chunk - run.chunk) / own) if own and mean else most


def _most_needed(run: Once, chunk: int) -> int:
    """Return the most that a run can have needed with that chunk: of each smaller one, a larger one is copied."""
    if chunk >= run.chunk:
        return run.needed * chunk // run.chunk
    return min(run.needed, int(run.written * _spread(run.mean, chunk))) if run.mean and not run.lost else run.needed


def _spread(mean: float, chunk: int) -> float:
    """Return how many bytes are copied for each that is written, if every write goes to another place.

    One of so many bytes, which begins at any block, touches `(mean - BLOCK) / chunk + 1` chunks on average.
    """
    return (max(mean, BLOCK) - BLOCK + chunk) / mean


def _with(run: Once, chunk: int, needed: int) -> Once:
    space = needed // 2 if run.lost else run.space
    return Once(run.seconds, needed, space, run.lost, run.written, chunk, run.count)


def _reckoning(pattern: Pattern, chunk: int) -> Reckoning:
    larger = copied(pattern, 2 * chunk) if chunk < AUTO[-1] else None
    return Reckoning(
        mean=pattern.writes.mean,
        past_copied=max((run.needed / run.written for run in _evidence(pattern.past)), default=0.0),
        copied=copied(pattern, chunk) or 0.0,
        copied_larger=larger or 0.0,
    )
