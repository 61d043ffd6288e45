"""Several subvolumes of one btrfs in the window: snapshots of one transaction, as is read back from them.

The kernel has no call for that. Each snapshot is a call that takes part in the running transaction, and commits it; all
snapshots of one transaction are made when no writer takes part in it any more, so they show one moment. Calls that
come while a transaction is being committed wait, and go on together when the next one may begin. So some calls for
each subvolume are made at once: the first one's commit gathers the others. Which transaction a snapshot is of the
kernel keeps with it. One that has all subvolumes counts, what is of others is removed; if there is none, BusyError.
Source: create_snapshot in fs/btrfs/ioctl.c, btrfs_commit_transaction in fs/btrfs/transaction.c.

A call has its directory to itself until its transaction is committed, so each has one of its own. What counts is
snapshotted once more, to its place, after the window: it is read-only, and so cannot be moved, nor have changed since.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from borg_lvm.errors import BusyError
from borg_lvm.machine.btrfs_subvolumes import CANDIDATE
from borg_lvm.planning.plan import Snapshot
from borg_lvm.records import dataclass
from borg_lvm.snapshots.btrfs import calls, top_level

AT_ONCE = 6
"""So many calls are made for each subvolume: on User Mode Linux 6.12 four had one transaction in 119 of 120 tries, six
in all of 120.
"""
INSIDE = "snapshot"
"""What a snapshot is called in a directory of its own."""
_STACK = 256 << 10
"""Bytes of a thread's stack, which is locked in memory."""


@dataclass(frozen=True)
class Candidate:
    """A snapshot that may be the one: of which it is a candidate, and its directory, open."""

    snapshot: Snapshot
    directory: int

    def transaction(self) -> int:
        """Return the transaction that it is of. Raises: OSError."""
        with top_level.opened(INSIDE, self.directory) as fd:
            return calls.transaction(fd)


class SubvolumeGroup:
    """Subvolumes of one btrfs, each with its candidates; `directory` is where the snapshots of all belong."""

    def __init__(self, directory: int, candidates: Sequence[Candidate], sources: Mapping[str, int]) -> None:
        self._directory = directory
        self._candidates = candidates
        makes = [calls.snapshot(one.directory, sources[one.snapshot.name], INSIDE) for one in candidates]
        self._crew = _Crew(makes)

    def take(self) -> None:
        """Take all candidates, at once. Raises: OSError."""
        self._crew.work()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Have the threads wait for `take` until the end of the block."""
        with self._crew.waiting():
            yield

    def settle(self) -> int:
        """Snapshot those of one transaction to where they belong, and return it. Raises: OSError, BusyError."""
        known = {one: one.transaction() for one in self._candidates}
        names = {one.snapshot.name: one.snapshot.origin.full_name for one in self._candidates}
        chosen = judge([(one.snapshot.name, number) for one, number in known.items()])
        if chosen is None:
            raise BusyError(
                f"{', '.join(names.values())}: btrfs has not put their snapshots into one transaction; there are none",
                remedy="back them up in runs of their own, or give up the one instant: --consistency per-volume",
            )
        for one, number in known.items():
            if number == chosen and one.snapshot.name in names:
                del names[one.snapshot.name]
                with top_level.opened(INSIDE, one.directory) as fd:
                    calls.snapshot(self._directory, fd, one.snapshot.name)()
        return chosen


def judge(found: Sequence[tuple[str, int]]) -> int | None:
    """Return the first transaction that has a snapshot of each name; None if there is none. Pure."""
    names = {name for name, _ in found}
    numbers = sorted({number for _, number in found})
    return next((number for number in numbers if {name for name, one in found if one == number} == names), None)


@contextmanager
def prepared(directory: int, sources: Sequence[tuple[Snapshot, int]]) -> Iterator[SubvolumeGroup]:
    """Have all ready for subvolumes, each with its root open; candidates are gone in the end. Raises: OSError."""
    with ExitStack() as stack:
        candidates = []
        for number in range(AT_ONCE):
            for snapshot, _ in sources:  # in turn, for threads wake in their order
                name = f"{snapshot.name}{CANDIDATE}{number}"
                os.mkdir(name, 0o700, dir_fd=directory)
                stack.callback(_removed_quietly, directory, name)
                candidates.append(Candidate(snapshot, stack.enter_context(top_level.opened(name, directory))))
        yield SubvolumeGroup(directory, candidates, {snapshot.name: source for snapshot, source in sources})


def removed(directory: int, name: str) -> None:
    """Remove a directory of a candidate, and what is in it. Raises: OSError."""
    with top_level.opened(name, directory) as fd, suppress(FileNotFoundError):
        calls.delete_subvolume(fd, INSIDE)
    os.rmdir(name, dir_fd=directory)


def _removed_quietly(directory: int, name: str) -> None:
    """Do the same; who has the duty to remove the snapshots of the run reports what is left."""
    with suppress(OSError):
        removed(directory, name)


class _Crew:
    """Threads that each make one call, all at once."""

    def __init__(self, makes: Sequence[Callable[[], None]]) -> None:
        self._makes = makes
        self._go = threading.Event()
        self._is_off = False
        self._errors: list[OSError] = []
        self._threads: list[threading.Thread] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        before = threading.stack_size(_STACK)
        try:
            for make in self._makes:
                thread = threading.Thread(target=self._one, args=(make,))
                thread.start()
                self._threads.append(thread)
            threading.stack_size(before)
            yield
        finally:
            threading.stack_size(before)
            self._is_off = True
            self._end()

    def work(self) -> None:
        """Have all calls made. Raises: OSError, the first one."""
        self._end()
        if self._errors:
            raise self._errors[0]

    def _end(self) -> None:
        self._go.set()
        for thread in self._threads:
            thread.join()

    def _one(self, make: Callable[[], None]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # those are the main thread's
        self._go.wait()
        if not self._is_off:
            try:
                make()
            except OSError as error:
                self._errors.append(error)
