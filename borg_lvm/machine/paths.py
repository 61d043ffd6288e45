"""What a path is, asked once: where it really lies, and whether it is a directory, a file or a link."""

from __future__ import annotations

import os
import stat
from typing import Literal

from borg_lvm.linux import safe_open
from borg_lvm.machine.mounts import Table
from borg_lvm.records import dataclass

Kind = Literal["dir", "file", "link", "missing"]


@dataclass(frozen=True)
class SeenPath:
    """A path as it was given, and what is there.

    `real` is the path with every link on the way resolved, but not a link at its very end: that is the thing
    itself (`kind` is then `link`, and `target` is where it leads). `error` says why nothing could be seen, there or
    behind the link. `device` is the `major:minor` of a block device, there or behind the link; else empty.
    `regular`: there is a regular file, and no link to one.
    """

    given: str
    real: str
    kind: Kind
    target: str = ""
    error: str = ""
    device: str = ""
    regular: bool = False

    @property
    def behind(self) -> str:
        """Where the thing itself lies: what a link leads to, if this is one."""
        return self.target or self.real


def impossible(path: str) -> str:
    """Return why no file can have this name, empty if one can: it cannot even be examined."""
    if "\0" in path:
        return "it has a zero byte, which ends a name; is a list made by `find -print0` read as one of lines?"
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return "it has a character that cannot be written in UTF-8"
    return ""


def look(path: str) -> SeenPath:
    """Look at an absolute path. Never raises for a path that does not exist or may not be read.

    Raises: SnapshotError as of `safe_open.leads_to`.
    """
    directory, name = os.path.split(path)
    behind = name in ("", ".", "..")  # `link/` means the directory behind the link
    real = safe_open.leads_to(path) if behind else os.path.join(safe_open.leads_to(directory), name)
    try:
        mode = os.lstat(real).st_mode
    except OSError as error:
        return SeenPath(path, real, "missing", error=error.strerror or str(error))
    if stat.S_ISLNK(mode):
        target = safe_open.leads_to(real)
        dangling = "" if os.path.exists(target) else "it leads nowhere"
        return SeenPath(path, real, "link", target, dangling, block_device(target))
    kind: Kind = "dir" if stat.S_ISDIR(mode) else "file"
    return SeenPath(path, real, kind, device=block_device(real), regular=stat.S_ISREG(mode))


def look_declared(path: str, table: Table) -> SeenPath:
    """Look at a path that is to stay live; at a mount point only by the table.

    Root may not look at the FUSE file system of a user, and nobody at one whose server is gone.
    """
    plain = os.path.normpath("/" + path.strip("/"))
    known = ".." not in path.split("/") and table.is_mount_point(plain)
    return SeenPath(path, plain, "dir") if known else look(path)


def block_device(path: str) -> str:
    """Return the `major:minor` of the block device that a path leads to; empty if it leads to none."""
    try:
        info = os.stat(path)
    except OSError:
        return ""
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" if stat.S_ISBLK(info.st_mode) else ""
