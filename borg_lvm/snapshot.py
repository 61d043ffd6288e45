"""Taking the snapshots of a plan.

All volumes of a group stand still together: `hold` says of each how. LVM itself holds one (`lvm`) while it makes
its snapshot, and that one is made first; the others are held by us from before until after (DESIGN.md gives the
argument why all snapshots then show one instant). Between `window` and its end nothing is logged, imported or
opened: the log may lie on a volume that stands still.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from borg_lvm import dm, instant, kernel, making
from borg_lvm.errors import SnapshotError
from borg_lvm.guardian import Guardian
from borg_lvm.ledger import Ledger
from borg_lvm.plan import Copy, Plan
from borg_lvm.report import Instant
from borg_lvm.signals import Signals


class Taker:
    """Takes the snapshots of one run."""

    def __init__(
        self, plan: Plan, watch: Guardian, ledger: Ledger, signals: Signals, deadline: float, timeout: float
    ) -> None:
        self.plan = plan
        self._watch = watch
        self._ledger = ledger
        self._signals = signals
        self._deadline = deadline
        self._timeout = timeout
        self._nesting = instant.nests(os.uname().release)

    def take(self) -> tuple[Instant, ...]:
        """Take all snapshots: in one window for one instant, else in one window for each volume.

        Errors: SnapshotError, ProgramError, InterruptedRunError. What was made so far is the caller's to remove.
        """
        copies = self.plan.copies
        together = self.plan.consistency == "instant"
        groups: list[tuple[Copy, ...]] = [copies] if together else [(copy,) for copy in copies]
        for copy in copies:
            self._watch.may_suspend(copy.origin.dm_uuid)
            if copy.hold == "freeze" or not self._nesting:
                self._watch.may_freeze(copy.mounted_at)
        instants = tuple(self._window(group) for group in groups if group)
        self._watch.forget_mounts()
        return instants

    def _window(self, group: Sequence[Copy]) -> Instant:
        self._signals.check()
        for copy in group:
            self._ledger.write("snapshot", name=copy.full_name, origin=copy.origin.dm_uuid)
        with making.maker(self.plan, group, self._ledger, self._timeout) as maker:
            self._signals.check()
            self._ledger.write("window")
            _write_out(group)
            begin, start = time.time(), time.monotonic()
            with self._watch.window(self._deadline), self._held(group):
                maker.make()
            seconds = time.monotonic() - start
            self._ledger.write("thawed")
            maker.prove()
        return Instant(tuple(copy.origin.full_name for copy in group), begin, seconds)

    @contextmanager
    def _held(self, group: Sequence[Copy]) -> Iterator[None]:
        """Hold still what LVM does not hold by itself; released in reverse, whatever happens."""
        if not self._nesting:
            self._refuse_frozen(group)
        with ExitStack() as stack:
            for copy in group:
                if copy.hold == "freeze":
                    self._ledger.write("freeze", path=copy.mounted_at)
                    stack.enter_context(_frozen(copy.mounted_at))
                elif copy.hold == "suspend":
                    self._ledger.write("suspend", device=copy.origin.dm_uuid)
                    stack.enter_context(_suspended(copy.origin.dm_uuid))
            yield

    def _refuse_frozen(self, group: Sequence[Copy]) -> None:
        """Try to freeze what LVM will hold; SnapshotError if somebody else has frozen it.

        Where freezes do not nest, `lvcreate` fails on such a file system, and leaves it suspended. There is no other
        way to ask the kernel.
        """
        for copy in group:
            if copy.hold == "lvm":
                self._ledger.write("freeze", path=copy.mounted_at)
                with _frozen(copy.mounted_at):
                    pass


def _write_out(group: Sequence[Copy]) -> None:
    """Write the dirty pages of every file system before the window, so that the freeze has little to wait for."""
    for copy in group:
        fd = os.open(copy.mounted_at, os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.syncfs(fd)
        finally:
            os.close(fd)


@contextmanager
def _frozen(path: str) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            kernel.freeze(fd)
        except OSError as error:
            raise SnapshotError(f"cannot freeze {path}: {error.strerror}; has somebody else frozen it?") from error
        try:
            yield
        finally:
            _thaw(fd, path)
    finally:
        os.close(fd)


def _thaw(fd: int, path: str) -> None:
    """Thaw what we froze. If it goes already, the snapshots are of no instant."""
    try:
        kernel.thaw(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise SnapshotError(f"{path} was set going again before its time") from error


@contextmanager
def _suspended(uuid: str) -> Iterator[None]:
    dm.suspend(uuid)
    try:
        yield
    finally:
        if dm.is_suspended(uuid):  # lvcreate resumes an origin itself, as soon as its snapshot is there
            dm.resume(uuid)
