"""Watching the ways to sources: whether a directory or link on one is moved, removed or replaced, also for a moment.

inotify watches an inode, wherever it is renamed from: so each component of a way is watched, links included, and of a
mount also the directory beneath it, which can be moved in a mount namespace where nothing is mounted on it. What is
there when nothing has been done yet is taken down here, too: it is compared with what is opened later.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import safe_open, syscalls
from borg_lvm.linux.safe_open import DIRECTORY, Identity, changed, magic, mount_id
from borg_lvm.machine.mounts import RAW, above
from borg_lvm.machine.paths import SeenPath
from borg_lvm.planning.view_layout import FrozenPath, Resolved

if TYPE_CHECKING:
    from borg_lvm.planning.plan import Plan

_GONE = syscalls.IN_MOVE_SELF | syscalls.IN_DELETE_SELF
_NEWS = _GONE | syscalls.IN_ATTRIB | syscalls.IN_Q_OVERFLOW
_MISSING = (errno.ENOENT, errno.ENOTDIR)
_NO_TREE = (errno.EINVAL, errno.ENOSYS, errno.EPERM)
_MOST_LINKS = 40
_EVENT = struct.Struct("iIII")
SOMETHING = "a directory or link on the way to a source"


class Watch:
    """Watches every component on the way to some paths. Raises: OSError when there is no queue for it any more."""

    def __init__(self) -> None:
        self._queue = syscalls.inotify()
        self._names: dict[int, str] = {}

    def add(self, name: str) -> None:
        """Watch a path, links on its way included, from now on. Raises: OSError.

        In a child in another mount namespace it watches the way as it is there; its name is then not known here.
        """
        for fd, path in _trail(name):
            # A link may be linked once more, removed, and be put back: only its number of names shows it.
            link = syscalls.IN_ATTRIB if stat.S_ISLNK(os.fstat(fd).st_mode) else 0
            number = syscalls.inotify_watch(self._queue, magic(fd), _GONE | link)
            self._names.setdefault(number, path)

    def moved(self) -> tuple[str, ...]:
        """Return what was moved or removed since it was last asked."""
        return tuple(dict.fromkeys(self._names.get(number, SOMETHING) for number in self._events()))

    def _events(self) -> Iterator[int]:
        while True:
            try:
                data = os.read(self._queue, 65536)
            except BlockingIOError:
                return
            while data:
                number, mask, _, length = _EVENT.unpack_from(data)
                data = data[_EVENT.size + length :]
                if mask & _NEWS:
                    yield number

    def close(self) -> None:
        """Watch no more."""
        os.close(self._queue)


@contextmanager
def watching(paths: Iterable[str]) -> Iterator[Watch]:
    """Watch paths for the length of the block. Raises: SnapshotError when that cannot be done."""
    try:
        watch = Watch()
    except OSError as error:
        raise SnapshotError(
            f"the ways to the sources cannot be watched: {error.strerror}",
            remedy="raise fs.inotify.max_user_instances (sysctl)",
        ) from error
    try:
        for name in paths:
            try:
                watch.add(name)
            except OSError as error:
                if error.errno in _MISSING:
                    raise changed(name, "it is gone") from error
                raise SnapshotError(
                    f"{name} cannot be watched: {error.strerror}", remedy="raise fs.inotify.max_user_watches (sysctl)"
                ) from error
        yield watch
    finally:
        watch.close()


def _trail(name: str) -> Iterator[tuple[int, str]]:
    """Yield each component on the way to a path, and what is beneath a mount: a descriptor, and its path.

    Links are followed.
    """
    rest, here, links = name.split("/")[::-1], os.open("/", DIRECTORY | os.O_CLOEXEC), 0
    try:
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            fd = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            try:
                path = os.readlink(magic(fd))
                yield fd, path
                if mount_id(fd) != mount_id(here):
                    yield from ((beneath, path) for beneath in _beneath(here, part))
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    here, fd = fd, here
                    continue
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
                target = os.readlink("", dir_fd=fd)
                rest += target.split("/")[::-1]
                if target.startswith("/"):
                    os.close(here)
                    here = os.open("/", DIRECTORY | os.O_CLOEXEC)
            finally:
                os.close(fd)
    finally:
        os.close(here)


def _beneath(directory: int, name: str) -> Iterator[int]:
    """Yield a descriptor of what a mount in a directory hides: it is seen in a copy of the mount below, alone."""
    try:
        tree = syscalls.open_tree(directory)
    except OSError as error:
        if error.errno not in _NO_TREE:
            raise
        return  # a sandbox, or a mount that nobody may copy
    try:
        with safe_open.path(name, tree) as fd:
            yield fd
    finally:
        os.close(tree)


def identities(resolved: Resolved) -> dict[str, Identity]:
    """Return what is there now at each path that is opened later, and see that it is where the plan takes it to be.

    Raises: SnapshotError.
    """
    wanted: dict[str, int | None] = {live_path.path: None for live_path in resolved.live_paths}
    for frozen_path in resolved.frozen:
        on = None if frozen_path.mount.fstype == RAW else frozen_path.mount.id
        wanted[frozen_path.target] = on
        if on is not None:
            wanted[frozen_path.mount.path] = on
    identities = {path: safe_open.seen(path, on) for path, on in wanted.items()}
    covered = {path for frozen_path in resolved.frozen for path in _opened_for(frozen_path)}
    for path in covered:
        if identities[path] is None:
            raise safe_open.changed(path, "it is gone")
    return {path: identity for path, identity in identities.items() if identity}


def _opened_for(frozen_path: FrozenPath) -> tuple[str, ...]:
    return (frozen_path.target,) if frozen_path.mount.fstype == RAW else (frozen_path.target, frozen_path.mount.path)


def way(seen: SeenPath) -> tuple[str, str]:
    """Return what of a source's name is resolved by its reader, and where that leads.

    It is all of it: what is a directory now may be a link in the snapshot. A device is known by its number.
    """
    if seen.device:
        return os.path.dirname(seen.given), os.path.dirname(seen.real)
    return seen.given, seen.behind


def lasting(plan: Plan) -> tuple[str, ...]:
    """Return the paths on the machine whose components must stay what they are from before the view is built.

    Of a path below another frozen path only the way to that is live; the rest is watched as the view shows it, by
    `mounts.follow`.
    """
    targets = [view_mount.target for view_mount in plan.view_mounts]
    outermost = [target for target in targets if not any(outer in targets for outer in above(target))]
    ways = [way for way, real in plan.ways.values() if real in outermost]
    return () if plan.pivots else (*outermost, *ways)
