"""Directories that are encrypted by fscrypt: unlocked on the server, locked in its snapshot.

The kernel keeps the keys for each mounted file system by itself and gives none away; a snapshot shows names and
contents in cipher. So these directories are named before anything is done.
Source: Documentation/filesystems/fscrypt.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace

from borg_lvm.linux import safe_open
from borg_lvm.planning.consent import if_live
from borg_lvm.planning.file_systems import FREEZABLE
from borg_lvm.planning.left_out import LeftOut
from borg_lvm.planning.view_layout import Resolved

FS_IOC_GET_ENCRYPTION_POLICY_EX = 0xC0096616
LONGEST_POLICY = 24
PATIENCE = 60.0
"""Seconds after which no more directories are examined: a user may have made millions."""
MOST_WAITING = 64 << 20
"""Letters of the paths of directories that are still to be examined, after which no more are found: as above."""
NOT_ALL = (
    f"not all directories could be examined (within {PATIENCE:.0f} s, and {MOST_WAITING >> 20} MiB of their names): "
    "whether more of them are encrypted by fscrypt, and so missing in the backup, is not known"
)
MOST = 20
"""So many are named; who has more has one for each user."""


def with_encrypted(resolved: Resolved) -> Resolved:
    """Return the same with a problem for each directory that is encrypted, MOST at most of each source.

    Every directory that the command enters is examined where the file system has the feature `encrypt`, which none has
    by default; for PATIENCE seconds at most, after which a note says that not all were.
    """
    left_out = {live_path.path for live_path in resolved.live_paths} | {
        frozen_path.target for frozen_path in resolved.frozen
    }
    end = time.monotonic() + PATIENCE
    problems: list[str] = []
    is_whole = True
    for frozen_path in resolved.frozen:
        if frozen_path.mount.fstype in FREEZABLE:
            target = frozen_path.target
            paths, all_of_it = _encrypted(target, left_out - {target}, resolved.left_out, end)
            is_whole = is_whole and all_of_it
            problems += (
                f"{path} is encrypted by fscrypt, and locked in a snapshot: its files would not be in the backup; "
                f"{if_live(path)}"
                for path in paths
            )
    late = () if is_whole else (NOT_ALL,)
    return replace(resolved, problems=(*resolved.problems, *problems), notes=(*resolved.notes, *late))


def _encrypted(top: str, left_out: Collection[str], excluded: LeftOut, end: float) -> tuple[list[str], bool]:
    """Return the directories at and below a path that are encrypted, and whether all were examined."""
    directories: list[str] = []
    with suppress(OSError), safe_open.path(top) as directory:  # if it is gone, others say so
        if not stat.S_ISDIR((seen := os.fstat(directory)).st_mode):
            return [top] if stat.S_ISREG(seen.st_mode) and _is_encrypted_file(directory) else [], True
        waiting, letters = [""], 0
        while waiting and len(directories) < MOST:
            if time.monotonic() >= end:
                return sorted(directories), False
            inner = waiting.pop()
            letters -= len(inner)
            path = os.path.join(top, inner).rstrip("/") or "/"
            if path in left_out or excluded.excludes(path):
                continue
            try:
                for below in _below(directory, inner, seen.st_dev):
                    waiting.append(below)
                    letters += len(below)
                    if letters > MOST_WAITING or time.monotonic() >= end:
                        return sorted(directories), False
            except EncryptedError:
                directories.append(path)
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
                    break  # this file system, or this kernel, has no fscrypt
    return sorted(directories), True


class EncryptedError(Exception):
    """A directory is encrypted."""


def _is_encrypted_file(file: int) -> bool:
    fd = safe_open.reopened(file, os.O_RDONLY)
    try:
        return _has_policy(fd)
    except OSError:
        return False
    finally:
        os.close(fd)


def _below(top: int, inner: str, device: int) -> Iterator[str]:
    """Yield the directories in a directory below `top`, on that device. Raises: EncryptedError; OSError, of fscrypt."""
    try:
        fd = safe_open.opened(inner, top, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # it is gone, or a stranger's file system; or its name is too long to be opened by anybody
        return
    try:
        if os.fstat(fd).st_dev != device:
            return
        if _has_policy(fd):
            raise EncryptedError
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield f"{inner}/{entry.name}" if inner else entry.name
    finally:
        os.close(fd)


def _has_policy(fd: int) -> bool:
    """Whether a directory or a file has a policy. Raises: OSError where there is no fscrypt."""
    question = struct.pack("=Q", LONGEST_POLICY) + bytes(LONGEST_POLICY)
    try:
        fcntl.ioctl(fd, FS_IOC_GET_ENCRYPTION_POLICY_EX, question)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return False
        if error.errno == errno.EINVAL:  # a policy that this kernel does not know
            return True
        raise
    return True
