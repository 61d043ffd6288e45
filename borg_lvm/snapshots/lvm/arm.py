"""Everything about snapshots that can be made ready in the kernel while the volumes are in use, and its undoing.

For a thick snapshot `ORIGIN-real` and `SNAPSHOT-cow` are made beside the live volume, under LVM's names and ids, and
two tables are loaded that work only when they are resumed (`tables.py`). For a thin one its number in the pool is made
free. All that can fail has failed then; what is left for the window is to suspend and to resume.

LVM's lock is held meanwhile. It is let go of while applications are quiesced, for they may use LVM themselves, and
taken again right before the window, when `complete` sees that nothing has changed and loads the origins' tables: they
must not wait there for anybody who might resume a volume.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from borg_lvm import dm
from borg_lvm.errors import SnapshotError
from borg_lvm.ledger import Ledger
from borg_lvm.plan import Copy
from borg_lvm.snapshots.lvm import tables
from borg_lvm.snapshots.lvm.create import Written

HIDDEN = dm.QUIET | 0x2 << 16
"""For udev: a part of a volume, not to be looked at (DISABLE_SUBSYSTEM_RULES), as LVM says of these."""
UDEV = "/run/udev/control"
NODES = "/dev/mapper"
_PATIENCE = 30.0


@dataclass(frozen=True)
class Member:
    """A volume in a window: its snapshot as planned and as LVM has written it down.

    `fd` leads to its mount point or device. `own` and `space` are the tables that the origin and the snapshot have
    before the window, `loaded` is what the snapshot is to have in it, `real` the number of the origin's `-real`.
    `waits`: its `-real` begins to work in the window. `beneath` is the uuid of the `-real` of a thin volume that has a
    thick snapshot of somebody else's: the pool wants that suspended, too.
    """

    copy: Copy
    written: Written
    fd: int
    waits: bool = False
    beneath: str = ""
    own: Sequence[dm.Row] = ()
    space: Sequence[dm.Row] = ()
    loaded: Sequence[dm.Row] = ()
    real: str = ""

    @property
    def origin(self) -> str:
        """The uuid of the origin's device."""
        return self.copy.origin.dm_uuid

    @property
    def snapshot(self) -> str:
        """The uuid of the snapshot's device."""
        return self.written.uuid


@contextmanager
def armed(
    group: Sequence[Copy], written: Sequence[Written], fds: Sequence[int], ledger: Ledger
) -> Iterator[list[Member]]:
    """Make everything ready for the window, which is in the block; after an error all of it is undone.

    Raises: SnapshotError: a volume is not what LVM has written down of it, or the kernel refuses a table.
    """
    begun: list[Member] = []
    try:
        for copy, one, fd in zip(group, written, fds, strict=True):
            begun.append(Member(copy, one, fd))
            ledger.write("armed", origin=copy.origin.dm_uuid, snapshot=one.uuid)
            try:
                begun[-1] = _armed(begun[-1])
            except OSError as error:
                raise SnapshotError(
                    f"cannot prepare the snapshot of {copy.origin.full_name}: {error.strerror}; nothing was frozen"
                ) from error
        yield begun
    except BaseException:
        for member in reversed(begun):
            disarm(member.origin, member.snapshot)
        raise


def _armed(member: Member) -> Member:
    if not member.copy.extents:
        dm.message(member.written.pool, f"delete {member.written.number}")
        own = dm.table(member.origin)
        beneath = f"{member.origin}-real" if own and own[0].kind == tables.ORIGIN else ""
        return replace(member, own=own, beneath=beneath)
    own, space = dm.table(member.origin), dm.table(member.snapshot)
    if not own or not space or space[0].kind == tables.SNAPSHOT:
        raise _changed(member)
    waits = False
    if own[0].kind == tables.ORIGIN:  # it has a snapshot of somebody else's
        real = own[0].arguments.split()[0]
    else:
        real, waits = _real(member, own)
    dm.create(f"{member.copy.dm_name}-cow", f"{member.snapshot}-cow")
    dm.load(f"{member.snapshot}-cow", space)
    dm.start(f"{member.snapshot}-cow", HIDDEN)
    cow = dm.number(f"{member.snapshot}-cow")
    loaded = tables.snapshot(own, real, cow, member.written.chunk)
    dm.load(member.snapshot, loaded)
    return replace(member, waits=waits, own=own, space=space, loaded=loaded, real=real)


def _real(member: Member, own: Sequence[dm.Row]) -> tuple[str, bool]:
    """Make the origin's `-real`; returns its number, and whether it has to wait for the window."""
    uuid = f"{member.origin}-real"
    with suppress(OSError):
        dm.remove(uuid)  # what a command of LVM's that was killed has left, and nothing uses
    dm.create(f"{member.copy.origin_dm_name}-real", uuid)
    dm.load(uuid, tables.real(own))
    waits = tables.must_wait(own)
    if not waits:
        dm.start(uuid, HIDDEN)
    return dm.number(uuid), waits


def complete(members: Sequence[Member]) -> None:
    """See that nothing has changed since, and load the tables of the origins. LVM's lock must be held.

    Raises: SnapshotError: another command has changed a volume meanwhile.
    """
    for member in members:
        try:
            if not _is_as_armed(member):
                raise _changed(member)
            if member.copy.extents and member.own[0].kind != tables.ORIGIN:
                dm.load(member.origin, tables.origin(member.own, member.real))
        except OSError as error:
            raise _changed(member) from error


def _is_as_armed(member: Member) -> bool:
    if dm.table(member.origin) != member.own or dm.table(member.origin, inactive=True):
        return False
    if not member.copy.extents:
        return not dm.works(member.snapshot)
    now = dm.table(member.snapshot), dm.table(member.snapshot, inactive=True), dm.table(f"{member.snapshot}-cow")
    return now == (member.space, member.loaded, member.space)


def _changed(member: Member) -> SnapshotError:
    name = member.copy.origin.full_name
    return SnapshotError(f"another command has changed {name} or its snapshot meanwhile", remedy="run it again")


def disarm(origin: str, snapshot: str) -> None:
    """Undo what was made ready, as far as it was (uuids of devices); LVM's commands find what they know then.

    Where the window has been, and a snapshot works, nothing is done: LVM removes that itself.
    """
    if dm.kind(origin) == tables.ORIGIN and dm.kind(snapshot) == tables.SNAPSHOT:
        return
    with suppress(OSError):
        dm.clear(origin)
    with suppress(OSError):
        if dm.kind(snapshot) == tables.SNAPSHOT:  # of an origin that is none
            dm.remove(snapshot)
        else:
            dm.clear(snapshot)
    with suppress(OSError):
        dm.remove(f"{snapshot}-cow")
    if dm.kind(origin) != tables.ORIGIN:
        with suppress(OSError):
            dm.remove(f"{origin}-real")


def prove(members: Sequence[Member]) -> None:
    """Ask the kernel for each snapshot, and activate the thin ones. Raises: SnapshotError."""
    for member in members:
        name = member.copy.origin.full_name
        try:
            if not member.copy.extents:
                _activate(member)
        except OSError as error:
            raise SnapshotError(f"cannot activate the snapshot of {name}: {error.strerror}") from error
        if dm.fill(member.copy.dm_name, member.snapshot).problem or (
            member.copy.extents and dm.kind(member.origin) != tables.ORIGIN
        ):
            raise SnapshotError(f"the snapshot of {name} was not made: somebody has changed its devices meanwhile")


def _activate(member: Member) -> None:
    """Activate a thin snapshot as LVM does, but that udev makes no link to it by what is on it.

    With such a link, /dev/disk/by-uuid would lead to the snapshot instead of the origin.
    """
    dm.create(member.copy.dm_name, member.snapshot, member.copy.minor)
    dm.load(
        member.snapshot, tables.thin(dm.table(member.origin), dm.number(member.written.pool), member.written.number)
    )
    dm.start(member.snapshot, dm.QUIET)
    node = os.path.join(NODES, member.copy.dm_name)
    end = time.monotonic() + _PATIENCE
    while os.path.exists(UDEV) and not os.path.exists(node) and time.monotonic() < end:
        time.sleep(0.01)
    if not os.path.exists(node):
        major, minor = map(int, dm.number(member.snapshot).split(":"))
        os.mknod(node, 0o060600, os.makedev(major, minor))
