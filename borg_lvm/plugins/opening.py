"""Opens a file of somebody else's: once, through no link, and nothing but a plain file.

A pipe would wait, a device would never end or begin to do something, and a link leads where its owner likes. So it is
looked at without being opened, and what has been looked at is what is opened: the name is used once.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import IO

HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
READING = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def plain(path: str, owner: int | None = None) -> IO[bytes]:
    """Open a plain file for reading; `owner` is the user id that it must belong to.

    The last component may be no link; whoever owns a directory before it can lead to another file of the same owner.
    Raises: OSError, with a reason in words when it is no plain file or another user's.
    """
    handle = os.open(path, HANDLE)
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", path)
        if owner is not None and info.st_uid != owner:
            raise PermissionError(errno.EPERM, f"it belongs to user {info.st_uid}, not {owner}", path)
        return os.fdopen(os.open(f"/proc/self/fd/{handle}", READING), "rb")
    finally:
        os.close(handle)
