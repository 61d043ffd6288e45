"""The ioctl of device-mapper: one request, one answer. Source: linux/dm-ioctl.h, interface version 4."""

from __future__ import annotations

import fcntl
import functools
import os
import struct

from borg_lvm.records import dataclass

CONTROL = "/dev/mapper/control"
CREATE, REMOVE, SUSPEND, STATUS, LOAD, CLEAR, TABLE, MESSAGE = 3, 4, 6, 7, 9, 10, 12, 14
"""Commands. SUSPEND without its flag resumes; TABLE returns a table's targets."""
READ_ONLY, SUSPENDED, PERSISTENT, TABLE_ONLY, WORKS, INACTIVE = 0x1, 0x2, 0x8, 0x10, 0x20, 0x1000
_FULL = 0x100
_HEADER = struct.Struct("=3I2IIi3IQ128s129s7x")  # version, sizes, targets, open, flags, event, pad, dev, name, uuid
_FLAGS, _FLAGS_AT = struct.Struct("=I"), 28
_ROOM, _MOST = 4096, 1 << 22


@dataclass(frozen=True)
class Request:
    """One command on the device of that uuid or name; `data` follows the header, with `count` targets in it."""

    command: int
    uuid: str = ""
    name: str = ""
    flags: int = 0
    data: bytes = b""
    count: int = 0
    event: int = 0
    device: int = 0


@dataclass(frozen=True)
class KernelAnswer:
    """What the kernel gives back; `device` is a number as the kernel encodes it, `users` how often it is open."""

    flags: int
    count: int
    users: int
    device: int
    data: bytes


@functools.cache
def control() -> int:
    """Return a descriptor of device-mapper's control device: opened once, for no path is looked up in the window."""
    return os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)


def call(request: Request) -> KernelAnswer:
    """Do one command; the answer has all data, however much it is. Raises: OSError (ENXIO: there is no such device)."""
    room = max(_ROOM, len(request.data))
    while True:
        answer = _call(request, room)
        if not answer.flags & _FULL or room >= _MOST:
            return answer
        room *= 8


class PreparedCall:
    """A command that is ready to be done, once: only the call to the kernel is left. The answer is its flags."""

    def __init__(self, request: Request, room: int = _ROOM) -> None:
        one, size = request, _HEADER.size + room
        self.buffer = bytearray(size)
        fields = (size, _HEADER.size, one.count, 0, one.flags, one.event, 0, one.device)
        _HEADER.pack_into(self.buffer, 0, 4, 0, 0, *fields, one.name.encode(), one.uuid.encode())
        self.buffer[_HEADER.size : _HEADER.size + len(one.data)] = one.data
        self._control, self._number = control(), 3 << 30 | _HEADER.size << 16 | 0xFD << 8 | one.command

    def __call__(self) -> int:
        """Do it, and return the device's flags. Raises: OSError, as `call`."""
        fcntl.ioctl(self._control, self._number, self.buffer, True)
        flags: int = _FLAGS.unpack_from(self.buffer, _FLAGS_AT)[0]
        return flags


def _call(request: Request, room: int) -> KernelAnswer:
    prepared = PreparedCall(request, room)
    prepared()
    *_, begin, count, users, flags, _, _, device, _, _ = _HEADER.unpack_from(prepared.buffer)
    return KernelAnswer(flags, count, users, device, bytes(prepared.buffer[begin:]))
