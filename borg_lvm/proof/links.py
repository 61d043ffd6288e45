"""A set of inodes of a fixed size in memory, by which a hard link is distinguished from a copy. Pure."""

from __future__ import annotations

from array import array

SLOTS = 1 << 18
"""Of eight bytes each: 2 MiB."""
MOST = SLOTS * 3 // 4
"""How many inodes it takes."""


class InodeSet:
    """Remembers inodes until it is full; 2^-46 is the chance that one is taken for another."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * SLOTS))
        self._count = 0

    @property
    def is_full(self) -> bool:
        """Whether it takes no more."""
        return self._count >= MOST

    def add(self, inode: tuple[int, int]) -> bool:
        """Take an inode in; return whether it is new. A full set says so of all."""
        if self.is_full:
            return True
        number = hash((inode, 0x5BD1E995)) & 0xFFFFFFFFFFFFFFFF or 1
        slot = number % SLOTS
        while self._slots[slot]:
            if self._slots[slot] == number:
                return False
            slot = (slot + 1) % SLOTS
        self._slots[slot] = number
        self._count += 1
        return True
