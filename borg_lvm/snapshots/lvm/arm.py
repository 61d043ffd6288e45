"""Everything about snapshots that can be made ready in the kernel while the volumes are in use, and its undoing.

For a thick snapshot `ORIGIN-real` and `SNAPSHOT-cow` are made beside the live volume, under LVM's names and ids, and
the snapshot's table is loaded, which works only when it is resumed (`tables.py`). What fails does so here, or in
`complete`; what is left for the window is to suspend and to resume.

LVM's lock is held meanwhile. It is let go of while applications are quiesced, for they may use LVM themselves, and
taken again right before the window, when `complete` sees that nothing has changed, loads the origins' tables, which
must not wait there for anybody who might resume a volume, and makes the numbers of thin snapshots free.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace

from borg_lvm.errors import BorgLvmError, BusyError, SnapshotError
from borg_lvm.linux import device_mapper
from borg_lvm.linux.signals import undisturbed
from borg_lvm.planning.plan import Snapshot
from borg_lvm.records import dataclass
from borg_lvm.snapshots.lvm import tables
from borg_lvm.snapshots.lvm.create import Made, Written
from borg_lvm.state.ledger import Ledger

HIDDEN = device_mapper.QUIET | 0x2 << 16
"""For udev: a part of a volume, not to be scanned (DISABLE_SUBSYSTEM_RULES), as LVM says of these."""
NODES = "/dev/mapper"
_PATIENCE = 30.0


@dataclass(frozen=True)
class Member:
    """A volume in a window: its snapshot as planned and as LVM has written it down.

    `fd` leads to its mount point or device. `own` and `space` are the tables that the origin and the snapshot have
    before the window, `loaded` is what the snapshot is to have in it, `real` the number of the origin's `-real`,
    `health` what the kernel says of a RAID when that is loaded. `waits`: its `-real` begins to work in the window.
    `beneath` is the uuid of the `-real` of a thin volume that has a thick snapshot of somebody else's: the pool wants
    that suspended, too.
    """

    snapshot: Snapshot
    written: Written
    fd: int
    waits: bool = False
    beneath: str = ""
    own: Sequence[device_mapper.Row] = ()
    space: Sequence[device_mapper.Row] = ()
    loaded: Sequence[device_mapper.Row] = ()
    real: str = ""
    health: str = ""

    @property
    def origin(self) -> str:
        """The uuid of the origin's device."""
        return self.snapshot.origin.dm_uuid

    @property
    def uuid(self) -> str:
        """The uuid of the snapshot's device."""
        return self.written.uuid


@contextmanager
def armed(
    created: Made, written: Sequence[Written], fds: Sequence[int], ledger: Ledger, timeout: float
) -> Iterator[list[Member]]:
    """Make everything ready for the window, which is in the block; after an error all of it is undone.

    LVM's lock must be held at the beginning of the block, and not at its end: it is taken to undo things.
    Raises: SnapshotError: a volume is not what LVM has written down of it, or the kernel refuses a table.
    """
    begun: list[Member] = []
    locked: AbstractContextManager[None] = nullcontext()
    try:
        for snapshot, row, fd in zip(created.group, written, fds, strict=True):
            begun.append(Member(snapshot, row, fd))
            ledger.write("armed", origin=snapshot.origin.dm_uuid, snapshot=row.uuid)
            try:
                with undisturbed():
                    begun[-1] = _armed(begun[-1])
            except OSError as error:
                raise _cannot(snapshot, error) from error
        locked = created.locked(timeout)
        yield begun
    except BaseException:
        with ExitStack() as stack:
            with suppress(BorgLvmError):  # who keeps the lock for so long hangs
                stack.enter_context(locked)
            for member in reversed(begun):
                disarm(member.origin, member.uuid)
        raise


def _cannot(snapshot: Snapshot, error: OSError) -> SnapshotError:
    return SnapshotError(
        f"cannot prepare the snapshot of {snapshot.origin.full_name}: {error.strerror}; nothing was frozen"
    )


def _armed(member: Member) -> Member:
    own = device_mapper.table(member.origin)
    if not own:
        raise _changed(member)
    _refuse_suspended(member)
    shared = own[0].kind == tables.ORIGIN  # it has a snapshot of somebody else's
    if not member.snapshot.extents:
        if shared and member.snapshot.origin.attr[0] not in "oO":  # since the survey: what is beneath is not registered
            raise _changed(member)
        return replace(member, own=own, beneath=f"{member.origin}-real" if shared else "")
    space = device_mapper.table(member.uuid)
    if not space or space[0].kind == tables.SNAPSHOT:
        raise _changed(member)
    real, waits = (own[0].arguments.split()[0], False) if shared else _real(member, own)
    device_mapper.create(f"{member.snapshot.dm_name}-cow", f"{member.uuid}-cow")
    device_mapper.load(f"{member.uuid}-cow", space)
    device_mapper.start(f"{member.uuid}-cow", HIDDEN)
    cow = device_mapper.number(f"{member.uuid}-cow")
    loaded = tables.snapshot(own, real, cow, member.written.chunk)
    if not waits:
        device_mapper.load(member.uuid, loaded)
    return replace(member, waits=waits, own=own, space=space, loaded=loaded, real=real)


def _real(member: Member, own: Sequence[device_mapper.Row]) -> tuple[str, bool]:
    """Make the origin's `-real`; returns its number, and whether it has to wait for the window."""
    uuid = f"{member.origin}-real"
    with suppress(OSError):
        device_mapper.remove(uuid)  # what a command of LVM's that was killed has left, and nothing uses
    device_mapper.create(f"{member.snapshot.origin_dm_name}-real", uuid)
    waits = tables.must_wait(own)
    if not waits:
        device_mapper.load(uuid, tables.real(own), read_only=device_mapper.is_read_only(member.origin))
        device_mapper.start(uuid, HIDDEN)
    return device_mapper.number(uuid), waits


def complete(members: Sequence[Member]) -> list[Member]:
    """See that nothing has changed since, and do what must not wait for anybody. LVM's lock must be held.

    The tables of the origins are loaded, by which one works as soon as anybody resumes it; that of a RAID or a cache as
    its `-real`, which reads now what its disks hold; and the numbers of thin snapshots are made free.
    Raises: BusyError: another command has changed a volume meanwhile; SnapshotError.
    """
    return [_completed(member) for member in members]


def _completed(member: Member) -> Member:
    try:
        if not _is_as_armed(member):
            raise _changed(member)
        _refuse_suspended(member)
        if not member.snapshot.extents:
            device_mapper.message(member.written.pool, f"delete {member.written.number}")
            return member
        if member.own[0].kind == tables.ORIGIN:
            return member
        read_only, health = device_mapper.is_read_only(member.origin), ""
        if member.waits:
            health = tables.health(*device_mapper.status("", member.origin))
            device_mapper.load(f"{member.origin}-real", tables.real(member.own), read_only=read_only)
            device_mapper.load(member.uuid, member.loaded)
        device_mapper.load(member.origin, tables.origin(member.own, member.real), read_only=read_only)
    except OSError as error:
        raise _cannot(member.snapshot, error) from error
    return replace(member, health=health)


def _refuse_suspended(member: Member) -> None:
    if device_mapper.is_suspended(member.origin):
        raise SnapshotError(
            f"{member.snapshot.origin.full_name}: somebody else has suspended it; no snapshot was taken",
            remedy=f"find out who, then: dmsetup resume {member.snapshot.origin_dm_name}",
        )


def _is_as_armed(member: Member) -> bool:
    if device_mapper.table(member.origin) != member.own or device_mapper.table(member.origin, inactive=True):
        return False
    if not member.snapshot.extents:
        return not device_mapper.is_there(member.uuid)
    now = (
        device_mapper.table(member.uuid),
        device_mapper.table(member.uuid, inactive=True),
        device_mapper.table(f"{member.uuid}-cow"),
    )
    return now == (member.space, [] if member.waits else member.loaded, member.space)


def _changed(member: Member) -> BusyError:
    name = member.snapshot.origin.full_name
    return BusyError(f"another command has changed {name} or its snapshot meanwhile", remedy="run it again")


def disarm(origin: str, snapshot: str) -> None:
    """Undo what was made ready, as far as it was (uuids of devices); LVM's commands find what they know then.

    Where the window has been, and a snapshot works, nothing is done: LVM removes that itself. What others have loaded
    is left alone. LVM's lock should be held.
    """
    real = f"{origin}-real"
    if device_mapper.kind(origin) == tables.ORIGIN and device_mapper.kind(snapshot) == tables.SNAPSHOT:
        return
    with suppress(OSError):
        waiting = device_mapper.table(origin, inactive=True)
        if waiting and waiting == tables.origin(waiting, device_mapper.number(real)):
            device_mapper.clear(origin)
    with suppress(OSError):
        if device_mapper.kind(snapshot) == tables.SNAPSHOT:  # of an origin that is none
            device_mapper.remove(snapshot)
        elif device_mapper.is_there(f"{snapshot}-cow"):
            device_mapper.clear(snapshot)
    with suppress(OSError):
        device_mapper.remove(f"{snapshot}-cow")
    if device_mapper.kind(origin) != tables.ORIGIN:
        with suppress(OSError):
            device_mapper.remove(real)


def prove(members: Sequence[Member]) -> None:
    """Ask the kernel for each snapshot, and activate the thin ones. Raises: SnapshotError."""
    for member in members:
        name = member.snapshot.origin.full_name
        try:
            if not member.snapshot.extents:
                with undisturbed():
                    _activate(member)
        except OSError as error:
            raise SnapshotError(f"cannot activate the snapshot of {name}: {error.strerror}") from error
        if device_mapper.fill(member.snapshot.dm_name, member.uuid).problem or (
            member.snapshot.extents and device_mapper.kind(member.origin) != tables.ORIGIN
        ):
            raise SnapshotError(f"the snapshot of {name} was not made: somebody has changed its devices meanwhile")


def _activate(member: Member) -> None:
    """Activate a thin snapshot as LVM does, but that udev makes no link to it by what is on it.

    With such a link, /dev/disk/by-uuid would lead to the snapshot instead of the origin.
    """
    device_mapper.create(member.snapshot.dm_name, member.uuid, member.snapshot.minor)
    rows = device_mapper.table(member.beneath or member.origin)
    device_mapper.load(member.uuid, tables.thin(rows, device_mapper.number(member.written.pool), member.written.number))
    device_mapper.start(member.uuid, device_mapper.QUIET)
    node = os.path.join(NODES, member.snapshot.dm_name)
    end = time.monotonic() + _PATIENCE
    while os.path.exists(device_mapper.UDEV) and not os.path.exists(node) and time.monotonic() < end:
        time.sleep(0.01)
    if not os.path.exists(node):
        major, minor = map(int, device_mapper.number(member.uuid).split(":"))
        os.mknod(node, 0o060600, os.makedev(major, minor))
