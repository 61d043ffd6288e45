"""Device-mapper by ioctl: is a device suspended, suspend it, resume it, read its status. No process, no file.

Source: linux/dm-ioctl.h, interface version 4. An origin is named by
its uuid, which is never given twice.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass

from borg_lvm.signals import undisturbed

CONTROL = "/dev/mapper/control"
_HEADER = struct.Struct("=3I2IIi3IQ128s129s7x")  # version, sizes, targets, open, flags, event, pad, dev, name, uuid
_TARGET = struct.Struct("=2QiI16s")  # start, length, status, next, type
_DEV_REMOVE, _DEV_SUSPEND, _DEV_STATUS, _TABLE_CLEAR, _TABLE_STATUS = 4, 6, 7, 10, 12
_SUSPEND, _TABLE_ONLY = 0x2, 0x10
_ROOM = 4096


def _ioctl(command: int, *, uuid: str = "", name: str = "", flags: int = 0) -> tuple[int, int, bytes]:
    """Do one command on the device of that uuid or name.

    Returns the flags, the number of targets and the data that the kernel gave back.
    """
    buffer = _asked(command, uuid=uuid, name=name, flags=flags)
    fields = _HEADER.unpack_from(buffer)
    return fields[7], fields[5], bytes(buffer[fields[4] :])


def _asked(command: int, *, uuid: str = "", name: str = "", flags: int = 0) -> bytearray:
    size = _HEADER.size + _ROOM
    buffer = bytearray(size)
    _HEADER.pack_into(buffer, 0, 4, 0, 0, size, _HEADER.size, 0, 0, flags, 0, 0, 0, name.encode(), uuid.encode())
    request = 3 << 30 | _HEADER.size << 16 | 0xFD << 8 | command
    fd = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, request, buffer, True)
    finally:
        os.close(fd)
    return buffer


def is_suspended(uuid: str) -> bool:
    """Whether the device is suspended. Errors: OSError (ENXIO: there is no such device)."""
    return bool(_ioctl(_DEV_STATUS, uuid=uuid)[0] & _SUSPEND)


def exists(name: str) -> bool:
    """Whether there is a device of that name; in doubt there is."""
    try:
        _ioctl(_DEV_STATUS, name=name)
    except OSError as error:
        return error.errno != errno.ENXIO
    return True


def is_there(uuid: str) -> bool:
    """Whether there is a device of that uuid, whatever its name; in doubt there is."""
    try:
        _ioctl(_DEV_STATUS, uuid=uuid)
    except OSError as error:
        return error.errno != errno.ENXIO
    return True


def kind(uuid: str) -> str:
    """Return the type of the first target in a device's table, as `snapshot-origin`; empty if there is none."""
    try:
        _, count, data = _ioctl(_TABLE_STATUS, uuid=uuid, flags=_TABLE_ONLY)
    except OSError:
        return ""
    return _TARGET.unpack_from(data)[4].rstrip(b"\0").decode() if count else ""


def is_merging(name: str) -> bool:
    """Whether a snapshot is being merged into the device of that name at this moment."""
    try:
        return status(name)[0] == "snapshot-merge"
    except OSError:
        return False


def uuid_of(name: str) -> str:
    """Return the uuid of the device of that name, which it keeps when it is renamed. Raises: OSError (ENXIO)."""
    uuid: bytes = _HEADER.unpack_from(_asked(_DEV_STATUS, name=name))[-1]
    return uuid.split(b"\0", 1)[0].decode()


def suspend(uuid: str) -> None:
    """Suspend a device; the file system on it is frozen too. Returns when all its writes are on the disk.

    Raises: OSError, also when a signal comes meanwhile that is to end us (EINTR): then it is not suspended.
    """
    with undisturbed():
        _ioctl(_DEV_SUSPEND, uuid=uuid, flags=_SUSPEND)


def resume(uuid: str) -> None:
    """Resume a device with the table that it had when it was suspended, and thaw the file system on it.

    A table that was loaded meanwhile is dropped. LVM loads those of an origin, of its `-real` and of the snapshot, and
    then resumes all three in an order; a snapshot-origin that is resumed alone lies on a device without a table, and
    every read and write of the live file system fails.
    """
    _ioctl(_TABLE_CLEAR, uuid=uuid)
    _ioctl(_DEV_SUSPEND, uuid=uuid)


def set_going(uuid: str) -> bool:
    """Resume a device if it is suspended, as `resume` does; tell whether it was. Errors: OSError, as `is_suspended`."""
    suspended = is_suspended(uuid)
    if suspended:
        resume(uuid)
    return suspended


def remove(uuid: str) -> None:
    """Remove a device that nothing uses. Errors: OSError (EBUSY: it is in use; ENXIO: there is no such device)."""
    _ioctl(_DEV_REMOVE, uuid=uuid)


def status(name: str, uuid: str = "") -> tuple[str, str]:
    """Return type and status of the first target of a device: `("snapshot", "16/204800 16")`.

    It is looked for by its uuid, if that is known, else by its name.
    Errors: OSError (ENXIO: there is no such device).
    """
    _, count, data = _ioctl(_TABLE_STATUS, uuid=uuid) if uuid else _ioctl(_TABLE_STATUS, name=name)
    if not count:
        return "", ""
    kind = _TARGET.unpack_from(data)[4].rstrip(b"\0").decode()
    text = data[_TARGET.size :].split(b"\0", 1)[0].decode()
    return kind, text


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

    A pool that cannot be written any more (`ro`, `out_of_data_space`, `Fail`) is told as a problem.
    Source: Documentation/admin-guide/device-mapper/thin-provisioning.rst.
    """
    try:
        kind, text = status(name)
    except OSError as error:
        return PoolFill(problem=f"its device is gone ({error.strerror})")
    words = text.split()
    if kind != "thin-pool" or len(words) < 5 or "/" not in words[1]:
        return PoolFill(problem=f"the kernel calls it {text!r} ({kind or 'no table'})")
    metadata, data = (tuple(int(number) for number in word.split("/")) for word in words[1:3])
    return PoolFill((data[0], data[1]), (metadata[0], metadata[1]), "" if words[4] == "rw" else f"it is {words[4]}")


def fill(name: str, uuid: str = "") -> Fill:
    """Read the state of a snapshot's device, by its uuid if that is known: somebody may have renamed it.

    A device that is gone or failed is told as a problem.

    Source: Documentation/admin-guide/device-mapper/snapshot.rst and thin-provisioning.rst.
    """
    try:
        kind, text = status(name, uuid)
    except OSError as error:
        return Fill(0, 0, f"its device is gone ({error.strerror})")
    if kind == "snapshot" and "/" in text:
        used, total = text.split()[0].split("/")
        return Fill(int(used) * 512, int(total) * 512)
    if kind == "thin" and text.split()[0].isdigit():
        return Fill(0, 0)
    return Fill(0, 0, f"the kernel calls it {text!r} ({kind or 'no table'})")
