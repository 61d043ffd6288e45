"""Which files are read back: a weighted random choice from a stream of unknown length, in bounded memory. Pure.

Source: P. S. Efraimidis and P. G. Spirakis, Weighted random sampling with a reservoir, 2006 (A-ES). A file's weight is
the square root of its size: large files count, and do not take it all.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator

from borg_lvm.records import dataclass, field


@dataclass
class FileSample:
    """A choice of at most `files` files with at most so many `bytes` together, but at least one.

    The same `seed` chooses the same files from the same stream.
    """

    seed: int
    files: int
    bytes: int
    _random: random.Random = field(init=False)
    _chosen: list[tuple[float, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - a choice that can be repeated, no secret

    def offer(self, path: str, size: int) -> None:
        """Take a regular file of so many bytes into the choice, or leave it out."""
        key = math.log(1.0 - self._random.random()) / (1.0 + math.sqrt(size))
        if len(self._chosen) < self.files:
            heapq.heappush(self._chosen, (key, path, size))
        elif self._chosen and key > self._chosen[0][0]:
            heapq.heapreplace(self._chosen, (key, path, size))

    def chosen(self) -> frozenset[str]:
        """Return the paths that are chosen."""
        return frozenset(self._within())

    def _within(self) -> Iterator[str]:
        left = self.bytes
        for number, (_, path, size) in enumerate(sorted(self._chosen, reverse=True)):
            if number and size > left:
                continue
            left -= size
            yield path
