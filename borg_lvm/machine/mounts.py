"""The mount table: /proc/self/mountinfo parsed, and which of its mounts can be reached by a path.

Source: proc(5), Documentation/filesystems/proc.rst section 3.5.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from borg_lvm.errors import SourceError
from borg_lvm.linux import btrfs, safe_open
from borg_lvm.records import dataclass

MOUNTINFO = "/proc/self/mountinfo"


@dataclass(frozen=True)
class Mount:
    """One line of the mount table.

    `root` is the part of the file system that is mounted (not `/` for a bind mount); `device` is `major:minor`;
    `options` are the mount's own, `super_options` the file system's.
    """

    id: int
    parent: int
    device: str
    root: str
    path: str
    options: str
    fstype: str
    source: str
    super_options: str

    def inside(self, path: str) -> str:
        """Return where `path`, which lies on this mount, is inside the file system: an absolute path in it."""
        return join(self.root, relative(path, self.path))

    @property
    def is_trigger(self) -> bool:
        """Whether it is an automount of its own, with nothing mounted on it yet; not a directory of a map's keys."""
        return self.fstype == "autofs" and bool({"direct", "offset"} & {*self.super_options.split(",")})

    @property
    def is_automatic_snapshot(self) -> bool:
        """Whether ZFS has mounted a snapshot below a `.zfs/snapshot` (zfsconcepts(7), Snapshots)."""
        return self.fstype == ZFS and "@" in self.source and "/.zfs/snapshot/" in self.path

    @property
    def hidden_from_root(self) -> str:
        """The number of the user whose FUSE file system it is that shows nothing to others, root included; else empty.

        Source: Documentation/filesystems/fuse.rst, `allow_other`.
        """
        if self.fstype.partition(".")[0] not in ("fuse", "fuseblk"):
            return ""
        options = self.super_options.split(",")
        owner = next((option.removeprefix("user_id=") for option in options if option.startswith("user_id=")), "0")
        return "" if "allow_other" in options or owner == "0" else owner


BTRFS, ZFS = "btrfs", "zfs"
RAW = "raw"
"""In the place of a file system's type: the device itself is the source, not a file system on it."""


def raw(device: str, path: str) -> Mount:
    """Return what stands for a mount where a block device (`major:minor`) itself is the source."""
    return Mount(-1, -1, device, "/", path, "", RAW, path, "")


def relative(path: str, base: str) -> str:
    """Return `path` below `base`, without a leading slash; empty when both are the same."""
    return path[len(base.rstrip("/")) :].lstrip("/")


def join(base: str, rest: str) -> str:
    """Join an absolute path and a relative one, which may be empty."""
    return f"{base.rstrip('/')}/{rest}" if rest else base


def above(path: str) -> Iterator[str]:
    """Yield every directory above a path, innermost first; it has an end for a relative path and for `//x` as well."""
    while path.strip("/"):
        path = os.path.dirname(path)
        if path:
            yield path if path.strip("/") else "/"


def upwards(path: str) -> Iterator[str]:
    """Yield a path, then every directory above it, innermost first."""
    yield path
    yield from above(path)


def nearest(paths: Iterable[str], *known: Container[str]) -> str | None:
    """Return the first of some paths that one of these holds; None if none does."""
    return next((path for path in paths if any(path in some for some in known)), None)


def read() -> list[Mount]:
    """Read the mount table of this process's namespace. The device of a btrfs is its block device.

    The kernel writes an anonymous number there; it stays with mounts that something else covers. A subvolume that is
    `btrfs.apart` has its own number, and its root is `/`. What ZFS has mounted by itself below a `.zfs`, because
    somebody has looked there, is left out: no path that is backed up leads there, and it is unmounted by itself.
    """
    with open(MOUNTINFO, "rb") as file:
        table = [mount for mount in parse(os.fsdecode(file.read())) if not mount.is_automatic_snapshot]
    return [_on_its_device(mount) if mount.fstype == BTRFS else mount for mount in table]


def _on_its_device(mount: Mount) -> Mount:
    with suppress(OSError), safe_open.path(mount.path) as fd:
        if safe_open.mount_id(fd) != mount.id:
            return mount
        device = safe_open.identity(fd).device
        if device and (top := btrfs.apart(device)):
            return replace(mount, device=f"0:{os.minor(device)}", root=f"/{relative(mount.root, top)}")
        if os.major(device):
            return replace(mount, device=f"{os.major(device)}:{os.minor(device)}")
    return mount


def parse(text: str) -> list[Mount]:
    """Parse a mount table, in its order (a mount comes after the one that it stands on).

    Raises: SourceError for one that proc(5) does not describe.
    """
    try:
        return [_parse_line(line) for line in text.split("\n") if line]
    except ValueError as error:
        raise SourceError(f"{MOUNTINFO} has a line that is not as proc(5) describes it") from error


def _parse_line(line: str) -> Mount:
    fields, _, rest = line.partition(" - ")
    number, parent, device, root, path, options = fields.split(" ")[:6]
    fstype, source, super_options = [*rest.split(" "), "", ""][:3]
    return Mount(
        int(number), int(parent), device, plain(root), plain(path), options, fstype, plain(source), super_options
    )


def plain(field: str) -> str:
    r"""Undo the kernel's escapes in a field of the table: \040 for a blank, \011, \012, \134."""
    if "\\" not in field:
        return field
    data = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), os.fsencode(field))
    return os.fsdecode(data)


def visible(mounts: Iterable[Mount]) -> list[Mount]:
    """Return the mounts that a path can still reach; what another mount has covered is left out.

    What is mounted over `/` itself is never entered: a path begins at our root, below that mount (so `mount --bind
    / /` changes nothing for those who are there already). Linear in the number of mounts, times their depth.
    """
    mounts = list(mounts)
    known = {mount.id for mount in mounts}
    points: dict[int, set[str]] = {}
    for mount in mounts:
        if mount.path != "/":
            points.setdefault(mount.parent, set()).add(mount.path)
    paths = {mount.id: mount.path for mount in mounts}
    reached: set[int] = set()
    result = []
    for mount in _parents_first(mounts):
        top = mount.parent not in known or mount.parent == mount.id
        entered = mount.path != "/" and mount.parent in reached
        if top or (entered and not _hidden(mount, paths[mount.parent], points[mount.parent])):
            reached.add(mount.id)
            result.append(mount)
    # One that carries another mount on its very root can be entered no more, but leads on to that one.
    return [mount for mount in result if mount.path not in points.get(mount.id, ())]


def _hidden(mount: Mount, parent_path: str, siblings: set[str]) -> bool:
    """Return whether a sibling stands on the parent's root, or on the way from there to this mount."""
    for directory in above(mount.path) if mount.path != parent_path else ():
        if directory in siblings:
            return True
        if directory == parent_path:
            break
    return False


def _parents_first(mounts: list[Mount]) -> list[Mount]:
    children: dict[int, list[Mount]] = {}
    known = {mount.id for mount in mounts}
    waiting = []
    for mount in mounts:
        if mount.parent in known and mount.parent != mount.id:
            children.setdefault(mount.parent, []).append(mount)
        else:
            waiting.append(mount)
    ordered = []
    while waiting:
        mount = waiting.pop()
        ordered.append(mount)
        waiting.extend(reversed(children.get(mount.id, [])))
    return ordered


class Table:
    """The visible mounts by their path, for looking a path up in time proportional to its depth."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self.mounts = visible(mounts)
        self._by_path = {mount.path: mount for mount in self.mounts}

    def is_mount_point(self, path: str) -> bool:
        """Whether something is mounted right at a path, as the table writes it: no link leads there."""
        return path in self._by_path

    def of(self, path: str) -> Mount:
        """Return the mount that `path` (absolute, links resolved) lies on.

        Raises: SourceError when not even the root directory is a mount, as after a plain chroot(8).
        """
        mount = next(
            (self._by_path[directory] for directory in (path, *above(path)) if directory in self._by_path), None
        )
        if mount is None:
            raise SourceError(
                f"{path} lies on no mount that can be seen from here; borg-lvm does not work inside a chroot",
                remedy="make the root directory of the chroot a mount point: mount --bind ROOT ROOT",
            )
        return mount
