"""Whether two streams have the same names, in memory that does not grow with them. Pure.

Each name is a keyed hash, and the hashes of a stream are added up in buckets, so the order of a stream does not matter.
Two streams with the same sums have the same names, but for a chance of 2^-108. Where sums differ, the streams are read
once more, and only the names of buckets that differ are kept.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator

BUCKETS = 1 << 12
MOST_BUCKETS = 64
"""How many of the buckets that differ are looked into."""
MOST_NAMES = 50_000
"""How many names are kept at most to find out which differ."""
_MASK = (1 << 108) - 1


class NameSums:
    """The names of one stream, added up. Streams that are compared must have the same `key`."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.count = 0
        self._sums = [0] * BUCKETS

    def add(self, name: str) -> None:
        """Take a name in."""
        bucket, number = _hashed(name, self.key)
        self._sums[bucket] = (self._sums[bucket] + number) & _MASK
        self.count += 1

    def differing(self, other: NameSums) -> tuple[int, ...]:
        """Return the buckets in which the names of both are not the same."""
        pairs = zip(self._sums, other._sums, strict=True)
        return tuple(number for number, (mine, theirs) in enumerate(pairs) if mine != theirs)


def _hashed(name: str, key: bytes) -> tuple[int, int]:
    number = int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=15, key=key).digest(), "big")
    return number % BUCKETS, number // BUCKETS


def missing(expected: Iterable[str], found: Iterable[str], buckets: tuple[int, ...], key: bytes) -> Iterator[str]:
    """Yield names of `expected` that `found` does not have, of the first of these buckets; both are read once.

    There may be more than these.
    """
    looked = frozenset(buckets[:MOST_BUCKETS])
    left: Counter[str] = Counter()
    for name in expected:
        if _hashed(name, key)[0] in looked and len(left) < MOST_NAMES:
            left[name] += 1
    for name in found:
        if name in left:
            left[name] -= 1
    yield from sorted(name for name, times in left.items() if times > 0)
