"""The calls that make and remove a snapshot of a subvolume, prepared. Source: include/uapi/linux/btrfs.h."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable

_CREATE, _DESTROY = 0x50009417, 0x5000940F
_READ_ONLY = 0x2
_PAGE = 4096


def snapshot(directory: int, source: int, name: str) -> Callable[[], None]:
    """Return what makes a read-only snapshot of the subvolume that `source` is the root of, by one ioctl.

    Raises, when it is called: OSError; ETXTBSY when a swap file in it is in use.
    """
    request = bytearray(struct.pack("qQQ32x", source, 0, _READ_ONLY) + os.fsencode(name))
    request += bytes(_PAGE - len(request))

    def make() -> None:
        fcntl.ioctl(directory, _CREATE, request)

    return make


def delete_subvolume(directory: int, name: str) -> None:
    """Delete a subvolume, though it may be in use: its space is free when nothing uses it any more. Raises: OSError."""
    request = bytearray(struct.pack("q", 0) + os.fsencode(name))
    fcntl.ioctl(directory, _DESTROY, request + bytes(_PAGE - len(request)))
