"""The calls that make and remove a snapshot of a subvolume, prepared, and return its transaction.

Source: include/uapi/linux/btrfs.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable

from borg_lvm.linux import syscalls

_CREATE, _DESTROY = 0x50009417, 0x5000940F
_READ_ONLY = 0x2
_INFO, _INFO_SIZE, _OTRANSID = 0x81F8943C, 504, 352
"""BTRFS_IOC_GET_SUBVOL_INFO, the bytes that it fills, and where the transaction is of which the snapshot was made."""
_PAGE = 4096


def snapshot(directory: int, source: int, name: str) -> Callable[[], None]:
    """Return what makes a read-only snapshot of the subvolume that `source` is the root of, by one ioctl.

    Raises, when it is called: OSError; ETXTBSY when a swap file in it is in use.
    """
    request = ctypes.create_string_buffer(struct.pack("qQQ32x", source, 0, _READ_ONLY) + os.fsencode(name), _PAGE)

    def make() -> None:
        syscalls.ioctl(directory, _CREATE, request)

    return make


def delete_subvolume(directory: int, name: str) -> None:
    """Delete a subvolume, though it may be in use: its space is free when nothing uses it any more. Raises: OSError."""
    request = bytearray(struct.pack("q", 0) + os.fsencode(name))
    fcntl.ioctl(directory, _DESTROY, request + bytes(_PAGE - len(request)))


def transaction(fd: int) -> int:
    """Return the transaction by which a snapshot, of which the root is open, was made. Raises: OSError."""
    buffer = bytearray(_INFO_SIZE)
    fcntl.ioctl(fd, _INFO, buffer, True)
    return int(struct.unpack_from("Q", buffer, _OTRANSID)[0])
