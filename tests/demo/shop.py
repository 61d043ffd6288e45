"""A small program that is always busy: a shop whose orders are files that it moves between two volumes.

At every instant the following holds, so a backup in which it does not hold is not of one instant:
1. each order of the journal is on exactly one volume: as a file in `open/` or in `orders/`, or it is being moved;
2. at most one order is being moved: its file in the old place is called `….leaving`;
3. the table, on the other volume, has as many orders as the journal, or one less (the one that is being added).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

# In the order in which borg reads them: by their inode numbers. So it reads photos between the two of orders.
DIRECTORIES = ("photos", "open", "journal")
OPEN, JOURNAL, SHIPPED, TABLE = "open", "journal/orders", "orders", "table"
LEAVING, ARRIVING = ".leaving", ".arriving"
WAITING = 80  # open orders before the oldest is shipped
RETURNED = 4  # every so many orders, one that was shipped comes back
PAUSE = 0.1  # seconds from one order to the next
PATIENCE = 60.0  # seconds that one order may take: a volume may be frozen for so long


@dataclass(frozen=True)
class Places:
    """The two volumes of the shop, or a copy of each."""

    shop: Path
    shipped: Path

    @property
    def orders(self) -> tuple[Path, Path]:
        """Return the directories that orders lie in, one on each volume."""
        return self.shop / OPEN, self.shipped / SHIPPED


def lay_out(at: Places, photos: int) -> None:
    """Make the shop's directories, and so many MiB of photos, which a backup program will be busy with for a while."""
    made = [at.shop / f"new-{number}" for number in range(len(DIRECTORIES))]
    for directory in made:
        directory.mkdir()
    by_inode = sorted(made, key=lambda directory: directory.stat().st_ino)
    for directory, name in zip(by_inode, DIRECTORIES, strict=True):
        directory.rename(at.shop / name)
    (at.shipped / SHIPPED).mkdir()
    for number in range(photos * 4):
        (at.shop / "photos" / f"{number:04}.jpg").write_bytes(os.urandom(1 << 18))


class Shop:
    """The program, in a thread of its own from `start` to `stop`; `longest` is how long one order took at most."""

    def __init__(self, at: Places) -> None:
        self.orders = 0
        self.moves = 0
        self.longest = 0.0
        self._open, self._shipped = at.orders
        self._waiting: deque[int] = deque()
        self._gone: deque[int] = deque()
        self._over = threading.Event()
        self.trouble = ""
        # A daemon: should a volume stay frozen, the demo must end all the same.
        self._thread = threading.Thread(target=self._work, name="shop", daemon=True)
        self._journal = (at.shop / JOURNAL).open("wb", buffering=0)
        self._table = (at.shipped / TABLE).open("wb", buffering=0)
        for _ in range(2 * WAITING):
            self._step()

    def start(self) -> None:
        """Open the shop."""
        self._thread.start()

    def stop(self) -> None:
        """Close it for good. `trouble` then says what was wrong with it, if anything was."""
        self._over.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self.trouble = f"the shop hangs: it did not end within {PATIENCE:g} s"
        else:
            self._journal.close()
            self._table.close()

    def _work(self) -> None:
        try:
            while not self._over.wait(PAUSE):
                began = time.monotonic()
                self._step()
                self.longest = max(self.longest, time.monotonic() - began)
        except OSError as error:
            self.trouble = f"the shop stopped working: {error}"

    def _step(self) -> None:
        number = self.orders + 1
        self._receive(number)
        self._journal.write(b"order %08d\n" % number)
        os.pwrite(self._table.fileno(), b"%08d orders\n" % number, 0)
        self.orders = number
        if len(self._waiting) > WAITING:
            self._ship()
        if number % RETURNED == 0 and self._gone:
            self._move(self._gone.popleft(), self._shipped, self._open, self._waiting)
            self._ship()

    def _receive(self, number: int) -> None:
        name = name_of(number)
        new = self._open / f"{name}{ARRIVING}"
        new.write_text(text_of(number))
        new.rename(self._open / name)
        self._waiting.append(number)

    def _ship(self) -> None:
        self._move(self._waiting.popleft(), self._open, self._shipped, self._gone)

    def _move(self, number: int, source: Path, target: Path, queue: deque[int]) -> None:
        """Move an order's file to the other volume, as mv(1) does: copy it, then remove it."""
        name = name_of(number)
        leaving, arriving = source / f"{name}{LEAVING}", target / f"{name}{ARRIVING}"
        (source / name).rename(leaving)
        arriving.write_bytes(leaving.read_bytes())
        arriving.rename(target / name)
        leaving.unlink()
        queue.append(number)
        self.moves += 1


def name_of(number: int) -> str:
    """Return the name of an order's file."""
    return f"order-{number:08}"


def text_of(number: int) -> str:
    """Return what an order's file holds."""
    return f"order {number}\n"
