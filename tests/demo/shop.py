"""A small program that is always busy: a shop that keeps its orders as files, in a journal and in a table.

At every instant the following holds, so a backup in which it does not hold is not of one instant:
1. every order that the journal knows lies in `inbox/` or in `done/`, in exactly one of them;
2. the table has as many orders as the journal, or one less (the one that is just being booked).
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from pathlib import Path

# In the order in which borg reads them: it goes by the folders' inode numbers.
FOLDERS = ("journal", "done", "photos", "inbox", "table")
JOURNAL, TABLE = "journal/orders", "table/orders"
WAITING = 80  # orders in the inbox before the oldest is worked off
RETURNED = 4  # every so many orders, one that was done comes back
PAUSE = 0.1  # seconds from one order to the next


def lay_out(at: Path, photos: int) -> None:
    """Make the shop's folders, and so many MiB of photos, which a backup program will be busy with for a while."""
    made = [at / f"new-{number}" for number in range(len(FOLDERS))]
    for folder in made:
        folder.mkdir()
    for folder, name in zip(sorted(made, key=lambda folder: folder.stat().st_ino), FOLDERS, strict=True):
        folder.rename(at / name)
    for number in range(photos * 4):
        (at / "photos" / f"{number:04}.jpg").write_bytes(os.urandom(1 << 18))


class Shop:
    """The program, in a thread of its own from `start` to `stop`; `longest` is how long one order took at most."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.orders = 0
        self.longest = 0.0
        self._inbox: deque[int] = deque()
        self._done: deque[int] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="shop")
        self._journal = (at / JOURNAL).open("wb", buffering=0)
        self._table = (at / TABLE).open("wb", buffering=0)
        for _ in range(2 * WAITING):
            self._step()

    def start(self) -> None:
        """Open the shop."""
        self._thread.start()

    def stop(self) -> None:
        """Close it for good."""
        self._over.set()
        self._thread.join()
        self._journal.close()
        self._table.close()

    def _work(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            self._step()
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(PAUSE)

    def _step(self) -> None:
        number = self.orders + 1
        self._receive(number)
        self._journal.write(b"order %08d\n" % number)
        os.pwrite(self._table.fileno(), b"%08d orders\n" % number, 0)
        self.orders = number
        if len(self._inbox) > WAITING:
            self._move(self._inbox, "inbox", self._done, "done")
        if number % RETURNED == 0 and self._done:
            self._move(self._done, "done", self._inbox, "inbox")
            self._move(self._inbox, "inbox", self._done, "done")

    def _receive(self, number: int) -> None:
        new = self.at / "inbox" / ".new"
        new.write_text(f"order {number}\n")
        new.rename(self.at / "inbox" / name_of(number))
        self._inbox.append(number)

    def _move(self, source: deque[int], from_folder: str, target: deque[int], to_folder: str) -> None:
        number = source.popleft()
        os.rename(self.at / from_folder / name_of(number), self.at / to_folder / name_of(number))
        target.append(number)


def name_of(number: int) -> str:
    """Return the name of an order's file."""
    return f"order-{number:08}"


def files(at: Path) -> int:
    """Count the shop's files."""
    return sum(1 for _ in itertools.chain.from_iterable(names for _, _, names in os.walk(at)))
