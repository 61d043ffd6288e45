"""Taking and removing the snapshots of a plan.

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
from contextlib import ExitStack, contextmanager, suppress

from borg_lvm import dm, instant, kernel, proc
from borg_lvm.devices import lvm
from borg_lvm.errors import BorgLvmError, SnapshotError
from borg_lvm.guardian import Guardian
from borg_lvm.ledger import Ledger
from borg_lvm.log import Log
from borg_lvm.plan import Copy, Plan
from borg_lvm.report import Instant
from borg_lvm.signals import Signals

IN_USE = 'global{cache_check_executable=""}'
"""LVM's configuration for volumes that are in use: up to LVM 2.03.16 it checks the metadata of a cachevol whenever a
snapshot comes or goes, finds it in use, and leaves the volume suspended. Nothing that is active needs that check."""
SILENT = IN_USE + ' log{syslog=0 file="/dev/null"}'
"""The same within the window: whoever keeps LVM's log may write to a volume that stands still."""

GRACE = 2.0
"""Seconds that an lvremove gets to end by itself when we are killed; then the guardian sets its origin going."""


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
        commands = [(copy, self._lvcreate(copy)) for copy in group]
        for copy, _ in commands:
            self._ledger.write("snapshot", name=copy.full_name, origin=copy.origin.dm_uuid)
        self._ledger.write("window")
        _write_out(group)
        begin, start = time.time(), time.monotonic()
        with self._watch.window(self._deadline), self._held(group):
            for _, argv in commands:
                proc.run(argv, timeout=self._timeout)
        self._ledger.write("thawed")
        return Instant(tuple(copy.origin.full_name for copy in group), begin, time.monotonic() - start)

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

    def _lvcreate(self, copy: Copy) -> list[str]:
        argv = ["lvcreate", "--snapshot", "--name", copy.name, "--yes", "--autobackup", "n", "--monitor", "n"]
        argv += ["--config", SILENT]
        for tag in self.plan.tags:
            argv += ["--addtag", tag]
        if copy.extents:
            argv += ["--extents", str(copy.extents)]
        else:
            argv += ["--activate", "y", "--setactivationskip", "y", "--ignoreactivationskip"]
        if copy.minor is not None:
            argv += ["--persistent", "y", "--minor", str(copy.minor)]
        return [*argv, copy.origin.full_name]


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


def remove(names: Sequence[str], timeout: float) -> None:
    """Remove snapshots (`vg/lv`), all in one command; in a second one what the first could not.

    An origin that was set going in the middle of an `lvcreate` is a plain volume again, below which LVM does not find
    the snapshot: then the first attempt takes the two apart, and the second removes.
    Errors: ProgramError, which holds LVM's reasons.
    """
    argv = ["lvremove", "--yes", "--force", "--autobackup", "n", "--config", IN_USE, *names]
    try:
        proc.run(argv, timeout=timeout)
    except proc.ProgramError:
        proc.run(argv, timeout=timeout)


def existing(run_id: str, timeout: float) -> list[str]:
    """Return the snapshots of a run that exist, by its tag."""
    return [volume.full_name for volume in lvm.report(timeout) if volume.run_id == run_id]


@contextmanager
def released(
    plan: Plan, watch: Guardian, ledger: Ledger, log: Log, leftovers: list[str], *, keep: bool, timeout: float
) -> Iterator[None]:
    """Hold the duty to remove the snapshots of a plan, whichever of them will be made, and to prove them gone.

    What cannot be removed is told in `leftovers`; nothing is raised, because a release goes on to its end.
    """
    complete = False
    try:
        yield
        complete = True
    finally:
        if keep and complete:
            _mark_kept(plan, log, timeout)
        else:
            with suppress(BorgLvmError):  # a full /run must not stop a release
                ledger.write("window")  # lvremove suspends the origins: `clean` looks after them if we die here
            with watch.standing_by(timeout, GRACE) as told:
                _remove_all(plan, log, leftovers, timeout, complete=complete)
            for text in told:
                log.warning(f"while the snapshots were removed: {text}")
            _resume_origins(plan, log, leftovers)
            if not leftovers:
                with suppress(BorgLvmError):
                    ledger.write("thawed")


def _mark_kept(plan: Plan, log: Log, timeout: float) -> None:
    names = [copy.full_name for copy in plan.copies]
    proc.run(["lvchange", "--autobackup", "n", "--addtag", lvm.KEEP_TAG, *names], timeout=timeout)
    # Not to be silenced by --quiet: who is not told will not remove them.
    log.warning(f"kept {', '.join(names)}; remove with: borg-lvm clean --run {plan.run_id}")


def _remove_all(plan: Plan, log: Log, leftovers: list[str], timeout: float, *, complete: bool) -> None:
    try:
        names = [copy.full_name for copy in plan.copies] if complete else existing(plan.run_id, timeout)
        if names:
            with log.step(f"removing {len(names)} snapshot{'s' * (len(names) > 1)}"):
                remove(names, timeout)
    except BorgLvmError as error:
        log.warning("\n".join([error.message, *error.details]))
    try:
        left = existing(plan.run_id, timeout)
    except BorgLvmError as error:
        leftovers.append(f"cannot tell whether the snapshots are gone: {error.message}")
        return
    leftovers += [f"snapshot {name}" for name in left]


def _resume_origins(plan: Plan, log: Log, leftovers: list[str]) -> None:
    """Set going the origins that an `lvremove` which died half-way has left suspended."""
    for copy in plan.copies:
        try:
            if dm.is_suspended(copy.origin.dm_uuid):
                dm.resume(copy.origin.dm_uuid)
                log.warning(f"resumed {copy.origin.full_name}, which lvremove had left suspended")
        except OSError as error:
            leftovers.append(f"{copy.origin.full_name} may stand still: {error.strerror}")
