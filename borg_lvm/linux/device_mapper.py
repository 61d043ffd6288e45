"""Device-mapper by ioctl: devices, their tables, suspending and resuming them, their status. No process, no file.

An origin is named by its uuid, which is never given twice.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence

from borg_lvm.linux import dm_ioctl
from borg_lvm.linux.dm_ioctl import KernelAnswer, PreparedCall, Request, call
from borg_lvm.linux.signals import undisturbed
from borg_lvm.records import dataclass

QUIET = (0x40 | 0x4 | 0x8) << 16
"""For udev, in an event: it counts (PRIMARY_SOURCE), no links are made by what is on the device (DISABLE_DISK_RULES),
all else leaves it alone (DISABLE_OTHER_RULES). Source: libdevmapper.h, DM_UDEV_FLAGS_SHIFT."""
UDEV = "/run/udev/control"
"""Is there where udev runs, which makes the nodes of devices."""
STATELESS = frozenset(("linear", "striped", "error", "zero", "thin", "snapshot-origin", "snapshot", ""))
"""Types of targets of which two may work on the same disk at once: they keep nothing about it."""
_TARGET = struct.Struct("=2QiI16s")  # start, length, status, next, type
_SECTOR = struct.Struct("=Q")


@dataclass(frozen=True)
class Row:
    """A line of a device's table: first sector, number of sectors, type of target, its arguments."""

    start: int
    length: int
    kind: str
    arguments: str


def create(name: str, uuid: str, minor: int | None = None) -> None:
    """Make a device without a table. Raises: OSError (EBUSY: there is one of that name, uuid or number)."""
    if minor is None:
        call(Request(dm_ioctl.CREATE, uuid, name))
    else:  # the major number is device-mapper's
        call(Request(dm_ioctl.CREATE, uuid, name, dm_ioctl.PERSISTENT, device=_encoded(0, minor)))


def _encoded(major: int, minor: int) -> int:
    """Return a device number as the kernel has it. Source: include/linux/kdev_t.h, new_encode_dev."""
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def users(device: int) -> int:
    """Return how often a device (`st_rdev`) is open, mounted or below another one. Raises: OSError (ENXIO)."""
    return call(Request(dm_ioctl.STATUS, device=_encoded(os.major(device), os.minor(device)))).users


def remove(uuid: str) -> None:
    """Remove a device that nothing uses. Raises: OSError (EBUSY: it is in use; ENXIO: there is no such device)."""
    call(Request(dm_ioctl.REMOVE, uuid))


def number(uuid: str) -> str:
    """Return the device number as `major:minor`. Raises: OSError (ENXIO: there is no such device)."""
    encoded = call(Request(dm_ioctl.STATUS, uuid)).device
    return f"{(encoded >> 8) & 0xFFF}:{(encoded & 0xFF) | ((encoded >> 12) & 0xFFF00)}"


def table(uuid: str, *, inactive: bool = False) -> list[Row]:
    """Return the table that a device works by, or the one that was loaded; empty if it has none.

    Raises: OSError (ENXIO).
    """
    which = dm_ioctl.INACTIVE if inactive else 0
    return _rows(Request(dm_ioctl.TABLE, uuid, flags=dm_ioctl.TABLE_ONLY | which))


def _rows(request: Request) -> list[Row]:
    return rows_of(call(request))


def rows_of(answer: KernelAnswer) -> list[Row]:
    """Return the rows that the kernel has answered: of a table, or of the status of each target."""
    rows, at = [], 0
    for _ in range(answer.count):
        start, length, _, following, kind = _TARGET.unpack_from(answer.data, at)
        arguments = answer.data[at + _TARGET.size :].split(b"\0", 1)[0].decode()
        rows.append(Row(start, length, kind.rstrip(b"\0").decode(), arguments))
        at = following  # from the beginning of the data
    return rows


def load(uuid: str, rows: Sequence[Row], *, read_only: bool = False) -> None:
    """Give a device a table that it works by when it is resumed next. Raises: OSError: the kernel refuses it."""
    data = b""
    for row in rows:
        text = row.arguments.encode() + b"\0"
        text += bytes(-len(text) % 8)
        data += _TARGET.pack(row.start, row.length, 0, _TARGET.size + len(text), row.kind.encode()) + text
    flags = dm_ioctl.READ_ONLY if read_only else 0
    call(Request(dm_ioctl.LOAD, uuid, flags=flags, data=data, count=len(rows)))


def clear(uuid: str) -> None:
    """Drop the table that a device would work by when it is resumed next. Raises: OSError (ENXIO)."""
    call(Request(dm_ioctl.CLEAR, uuid))


def message(uuid: str, text: str) -> None:
    """Send a message to the target at a device's first sector. Raises: OSError with what it answered."""
    call(_message(uuid, text))


def _message(uuid: str, text: str) -> Request:
    return Request(dm_ioctl.MESSAGE, uuid, data=_SECTOR.pack(0) + text.encode() + b"\0")


def is_suspended(uuid: str) -> bool:
    """Whether the device is suspended. Raises: OSError (ENXIO: there is no such device)."""
    return bool(call(Request(dm_ioctl.STATUS, uuid)).flags & dm_ioctl.SUSPENDED)


def is_read_only(uuid: str) -> bool:
    """Whether nothing can be written to the device. Raises: OSError (ENXIO: there is no such device)."""
    return bool(call(Request(dm_ioctl.STATUS, uuid)).flags & dm_ioctl.READ_ONLY)


def works(uuid: str) -> bool:
    """Whether there is a device of that uuid, and it has a table that it works by."""
    try:
        return bool(call(Request(dm_ioctl.STATUS, uuid)).flags & dm_ioctl.WORKS)
    except OSError:
        return False


def is_there(uuid: str) -> bool:
    """Whether there is a device of that uuid, whatever its name; in doubt there is."""
    try:
        call(Request(dm_ioctl.STATUS, uuid))
    except OSError as error:
        return error.errno != errno.ENXIO
    return True


def kind(uuid: str) -> str:
    """Return the type of the first target in a device's table, as `snapshot-origin`; empty if there is none."""
    try:
        rows = table(uuid)
    except OSError:
        return ""
    return rows[0].kind if rows else ""


def is_merging(name: str) -> bool:
    """Whether a snapshot is being merged into the device of that name at this moment."""
    try:
        return status(name)[0] == "snapshot-merge"
    except OSError:
        return False


def start(uuid: str, event: int = 0) -> None:
    """Have a device work by the table that was loaded, if one was, suspended or not; `event` is for udev.

    Raises: OSError, also when a signal comes meanwhile that is not held off (EINTR), as `suspending`.
    """
    starting(uuid, event)()


def suspending(uuid: str) -> PreparedCall:
    """Return what suspends a device; the file system on it is frozen too. It returns when all writes are on the disk.

    It raises OSError also when a signal comes meanwhile that is not held off (EINTR): then the device is not suspended.
    Stray ones are to be held off by `undisturbed`, once for a series of calls: it takes ten times as long as a call.
    """
    return PreparedCall(Request(dm_ioctl.SUSPEND, uuid, flags=dm_ioctl.SUSPENDED))


def starting(uuid: str, event: int = 0) -> PreparedCall:
    """Return `start`, prepared."""
    return PreparedCall(Request(dm_ioctl.SUSPEND, uuid, event=event))


def messaging(uuid: str, text: str) -> PreparedCall:
    """Return `message`, prepared."""
    return PreparedCall(_message(uuid, text))


def looking(uuid: str) -> PreparedCall:
    """Return a look at a device, prepared; among its flags is `dm_ioctl.SUSPENDED`."""
    return PreparedCall(Request(dm_ioctl.STATUS, uuid))


def resume(uuid: str) -> None:
    """Resume a device with the table that it had when it was suspended, and thaw the file system on it.

    A table that was loaded meanwhile is dropped. LVM loads those of an origin, of its `-real` and of the snapshot, and
    then resumes all three in an order; a snapshot-origin that is resumed alone lies on a device without a table, and
    every read and write of the live file system fails. But where `-real` works already, and the origin's own table
    must not work beside it (RAID, a cache), the one that was loaded is what is meant.
    """
    if kind(uuid) in STATELESS or not works(f"{uuid}-real"):
        clear(uuid)
    with undisturbed():
        start(uuid)


def resume_if_suspended(uuid: str) -> bool:
    """Resume a device if it is suspended, as `resume` does; return whether it was. Raises: as `is_suspended`."""
    suspended = is_suspended(uuid)
    if suspended:
        resume(uuid)
    return suspended


def status(name: str, uuid: str = "") -> tuple[str, str]:
    """Return type and status of the first target of a device: `("snapshot", "16/204800 16")`.

    It is looked for by its uuid, if that is known, else by its name.
    Raises: OSError (ENXIO: there is no such device).
    """
    rows = _rows(Request(dm_ioctl.TABLE, uuid, "" if uuid else name))
    return (rows[0].kind, rows[0].arguments) if rows else ("", "")


@dataclass(frozen=True)
class Fill:
    """How a snapshot fares: `used` and `total` bytes of copy-on-write space, or what is wrong with it."""

    used: int
    total: int
    problem: str = ""

    @property
    def percent(self) -> float:
        """Used space in per cent; 0 for a thin snapshot, which has no space of its own."""
        return 100 * self.used / self.total if self.total else 0.0


@dataclass(frozen=True)
class PoolFill:
    """How a thin pool fares: blocks used and there, of its data and its metadata; or what is wrong with it."""

    data: tuple[int, int] = (0, 0)
    metadata: tuple[int, int] = (0, 0)
    problem: str = ""


def pool_fill(name: str) -> PoolFill:
    """Read the state of a thin pool, by the name of its device (`vg-pool-tpool`).

    A pool that cannot be written any more (`ro`, `out_of_data_space`, `Fail`) is reported as a problem.
    Source: Documentation/admin-guide/device-mapper/thin-provisioning.rst.
    """
    try:
        kind, text = status(name)
    except OSError as error:
        return PoolFill(problem=f"its device is gone ({error.strerror})")
    return pool_fill_of(kind, text)


def pool_fill_of(kind: str, text: str) -> PoolFill:
    """Read the state of a thin pool from the type and the status of its target."""
    words = text.split()
    if kind != "thin-pool" or len(words) < 5 or "/" not in words[1]:
        return PoolFill(problem=f"the kernel calls it {text!r} ({kind or 'no table'})")
    metadata, data = (tuple(int(number) for number in word.split("/")) for word in words[1:3])
    return PoolFill((data[0], data[1]), (metadata[0], metadata[1]), "" if words[4] == "rw" else f"it is {words[4]}")


def fill(name: str, uuid: str = "") -> Fill:
    """Read the state of a snapshot's device, by its uuid if that is known: somebody may have renamed it.

    A device that is gone or failed is reported as a problem.

    Source: Documentation/admin-guide/device-mapper/snapshot.rst and thin-provisioning.rst.
    """
    try:
        kind, text = status(name, uuid)
    except OSError as error:
        return Fill(0, 0, f"its device is gone ({error.strerror})")
    return fill_of(kind, text)


def fill_of(kind: str, text: str) -> Fill:
    """Read the state of a snapshot from the type and the status of its target."""
    if kind == "snapshot" and "/" in text:
        used, total = text.split(maxsplit=1)[0].split("/")
        return Fill(int(used) * 512, int(total) * 512)
    if kind == "thin" and text.split(maxsplit=1)[0].isdigit():
        return Fill(0, 0)
    return Fill(0, 0, f"the kernel calls it {text!r} ({kind or 'no table'})")
