"""Having LVM make the snapshots of a window: what can be done before it, what must be done in it.

One volume that no application stands still for: one `lvcreate`. Else a warm `lvm` shell, so that no program has to
start meanwhile. And where that is sound (`Copy.prepared`), metadata first: before the window the copy-on-write space
is made and zeroed as a volume of its own, and LVM writes down that it is a snapshot without telling the kernel; in the
window, `lvchange --refresh` tells the kernel, of all at once. A crash between the two leaves a plain volume, or a
snapshot that the kernel does not know; both carry our tags, and `lvremove` removes both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from borg_lvm import dm, lvmshell, proc
from borg_lvm.devices.lvm import IN_USE
from borg_lvm.errors import SnapshotError
from borg_lvm.ledger import Ledger
from borg_lvm.lvmshell import LvmShell
from borg_lvm.plan import Copy, Plan

SILENT = IN_USE + ' log{syslog=0 file="/dev/null"} backup{backup=0 archive=0} activation{monitoring=0}'
"""LVM's configuration around the window: whoever keeps its log, or /etc, may lie on a volume that stands still; and
dmeventd must not unmount or extend what it does not know (`--monitor n` is not enough: a refresh starts it even so).
"""
UNTOLD = "global{activation=0} " + SILENT


class Maker(Protocol):
    """What makes the snapshots of one window."""

    def make(self, prove_held: Callable[[], None]) -> None:
        """Make them; the volumes stand still, which is proven once more when the first is made and others are not.

        Errors: SnapshotError, ProgramError.
        """

    def prove(self) -> None:
        """Ask the kernel for each of them. Errors: SnapshotError."""


@contextmanager
def maker(plan: Plan, group: Sequence[Copy], ledger: Ledger, timeout: float) -> Iterator[Maker]:
    """Prepare the snapshots of a group and return what makes them. Errors: SnapshotError, ProgramError."""
    if len(group) == 1 and not (plan.applications and plan.consistency == "instant"):
        yield _Alone(group[0], plan, timeout)
        return
    with lvmshell.started(timeout) as shell:
        ledger.write_process("program", shell.pid)
        together = _Together(group, plan, shell)
        together.prepare()
        yield together


class _Alone:
    """One `lvcreate`."""

    def __init__(self, copy: Copy, plan: Plan, timeout: float) -> None:
        self._argv = _lvcreate(copy, plan)
        self._timeout = timeout

    def make(self, prove_held: Callable[[], None]) -> None:
        proc.run(self._argv, timeout=self._timeout)

    def prove(self) -> None:
        """Do nothing: `lvcreate` has told by its status."""


class _Together:
    """A warm shell; the first of the group, which LVM may have to hold by itself, is made before the others."""

    def __init__(self, group: Sequence[Copy], plan: Plan, shell: LvmShell) -> None:
        self._group = group
        self._plan = plan
        self._shell = shell
        self._prepared = [copy for copy in group if copy.prepared]

    def prepare(self) -> None:
        for copy in self._prepared:
            self._shell.run(_space(copy, self._plan))
            self._shell.run(_convert(copy))
        known = set(self._shell.run(_origins(self._prepared)) if self._prepared else [])
        self._refuse([copy for copy in self._prepared if f"{copy.name}|{copy.origin.name}" not in known])

    def make(self, prove_held: Callable[[], None]) -> None:
        early = [copy for copy in self._prepared if not dm.fill(copy.dm_name).problem]
        if early:
            names = ", ".join(copy.origin.full_name for copy in early)
            raise SnapshotError(
                f"the snapshot of {names} was there before its time: another command of LVM's changed the volume",
                remedy="run it again",
            )
        self._make(self._group[:1])
        prove_held()
        self._make(self._group[1:])

    def _make(self, part: Sequence[Copy]) -> None:
        ready = [copy for copy in part if copy.prepared]
        for start in range(0, len(ready), lvmshell.MOST_WORDS):
            self._shell.run(_refresh(ready[start : start + lvmshell.MOST_WORDS]))
        for copy in part:
            if not copy.prepared:
                self._shell.run(_lvcreate(copy, self._plan))

    def prove(self) -> None:
        self._refuse([copy for copy in self._group if dm.fill(copy.dm_name).problem])

    def _refuse(self, missing: Sequence[Copy]) -> None:
        if missing:
            names = ", ".join(copy.origin.full_name for copy in missing)
            raise SnapshotError(f"LVM did not make the snapshot of {names}", details=tuple(self._shell.words))


def _lvcreate(copy: Copy, plan: Plan) -> list[str]:
    """Make a snapshot."""
    argv = ["lvcreate", "--snapshot", "--name", copy.name, "--yes", "--config", SILENT]
    argv += _tags(plan)
    if copy.extents:
        argv += ["--extents", str(copy.extents)]
    else:
        argv += ["--activate", "y", "--setactivationskip", "y", "--ignoreactivationskip"]
    return [*argv, *_minor(copy), copy.origin.full_name]


def _space(copy: Copy, plan: Plan) -> list[str]:
    """Make the space of a snapshot, its header zeroed, as a volume of its own."""
    argv = ["lvcreate", "--name", copy.name, "--yes", "--config", SILENT, *_tags(plan)]
    argv += ["--zero", "y", "--wipesignatures", "y", "--extents", str(copy.extents)]
    return [*argv, *_minor(copy), copy.origin.vg]


def _convert(copy: Copy) -> list[str]:
    """Write down that this space is a snapshot of its origin; the kernel is not told."""
    argv = ["lvconvert", "--type", "snapshot", "--yes", "--zero", "n", "--config", UNTOLD]
    return [*argv, copy.origin.full_name, copy.full_name]


def _refresh(copies: Sequence[Copy]) -> list[str]:
    """Tell the kernel what LVM has written down of these origins."""
    argv = ["lvchange", "--refresh", "--config", SILENT]
    return [*argv, *(copy.origin.full_name for copy in copies)]


def _origins(copies: Sequence[Copy]) -> list[str]:
    """List snapshots with their origins, one `name|origin` a line."""
    argv = ["lvs", "--noheadings", "--separator", "|", "--options", "lv_name,origin", "--config", SILENT]
    return [*argv, *sorted({copy.origin.vg for copy in copies})]


def _tags(plan: Plan) -> list[str]:
    return [word for tag in plan.tags for word in ("--addtag", tag)]


def _minor(copy: Copy) -> list[str]:
    return [] if copy.minor is None else ["--persistent", "y", "--minor", str(copy.minor)]
