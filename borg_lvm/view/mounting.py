"""Laying the mounts of a view, each through descriptors, and proving from the mount table that they lie right.

What lies below another mount of the view is reached through that mount, which is frozen, and not through the live
directories above it: these belong to others, who may swap them meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal

from borg_lvm.linux import btrfs, safe_mount, safe_open, syscalls
from borg_lvm.linux.safe_open import Identity
from borg_lvm.machine import mounts
from borg_lvm.machine.mounts import Mount, above, relative
from borg_lvm.planning.plan import Plan, ViewMount
from borg_lvm.records import dataclass, field

ZFS_SNAPSHOTS = range(0xFFFFFFFFFFFD - (1 << 32), 0xFFFFFFFFFFFD)
"""The numbers of first directories of snapshots of ZFS. Source: ZFSCTL_INO_SNAPDIRS in sys/zfs_ctldir.h."""


@dataclass(frozen=True)
class Step:
    """One mount: `source` (in the staging area for a snapshot's, else the live path itself) bound on `target`.

    `view_mount` is the plan's frozen path, if it is one.
    """

    kind: Literal["snapshot", "live"]
    source: str
    target: str
    view_mount: ViewMount | None = None


@dataclass
class Ground:
    """Where the mounts of a view are mounted: `base` is put before each target; `known` is what the survey saw there.

    With `base` the targets are ours to make, where they do not lie below another mount.
    """

    known: Mapping[str, Identity]
    base: str
    steps: Sequence[Step]
    _stack: ExitStack = field(default_factory=ExitStack)
    _live: dict[str, int] = field(default_factory=dict)
    _tops: dict[str, int] = field(default_factory=dict)
    _mounted: list[Step] = field(default_factory=list)

    def __enter__(self) -> Ground:
        """Open the live paths, before anything covers them. Raises: OSError, SnapshotError."""
        self._outer = {path for step in self.steps for path in above(step.target)}
        try:
            for step in self.steps:
                if step.kind == "live" and (fd := self._live_path(step.source)) is not None:
                    self._live[step.target] = fd
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _live_path(self, name: str) -> int | None:
        seen = safe_open.seen(name)
        if seen is None:
            return None
        # The survey has not seen a cache that we have made since.
        return self._stack.enter_context(safe_open.as_seen(name, self.known.get(name, seen)))

    def mount_all(self) -> Sequence[Step]:
        """Lay every mount, outer ones first; return those that were: a live path that is gone has none.

        Raises: OSError, with a note of what was being covered; SnapshotError.
        """
        for step in self.steps:
            try:
                self._lay(step)
            except OSError as error:
                if safe_open.is_link(error):
                    raise safe_open.swapped(place(self.base, step.target), error) from error
                error.add_note(f"covering {place(self.base, step.target)}")
                raise
        return self._mounted

    def _lay(self, step: Step) -> None:
        if step.kind == "live":
            if step.target in self._live:
                self._lay_on(step, self._live[step.target], syscalls.MS_REC)
            return
        assert step.view_mount
        if step.view_mount.device:
            with safe_open.own_device(step.source) as source:
                self._lay_on(step, source, 0)
            return
        with safe_open.path(step.source) as source:
            self._refuse_another(step, source)
            self._lay_on(step, source, 0)

    def _refuse_another(self, step: Step, source: int) -> None:
        """Refuse a snapshot's path that is not the same file there as the one that the survey saw."""
        identity = safe_open.identity(source)
        assert step.view_mount
        if not is_in_snapshot(step.view_mount, identity, self.known[step.target], identity.device):
            raise safe_open.changed(step.target, "its snapshot holds something else of its name")

    def _lay_on(self, step: Step, source: int, flags: int) -> None:
        outer = next((path for path in above(step.target) if path in self._tops), None)
        known = None if self.base or outer else self.known[step.target]
        with ExitStack() as stack:
            directory, name = self._directory(step.target, outer)
            stack.callback(os.close, directory)
            if self.base and outer is None:
                safe_mount.mount_point(directory, name, source)
            top = safe_mount.lay(source, directory, name, flags, known)
        self._mounted.append(step)
        if step.target in self._outer:
            self._tops[step.target] = top
            self._stack.callback(os.close, top)
        else:
            os.close(top)

    def _directory(self, target: str, outer: str | None) -> tuple[int, str]:
        """Open the directory that a target is an entry of; return it with the entry's name."""
        directory, name = os.path.split(place(self.base, target))
        if outer is not None:
            inner = relative(os.path.dirname(target), outer)
            return safe_open.opened(inner, self._tops[outer], safe_open.DIRECTORY), name
        if self.base and target != "/":
            with safe_open.path(self.base) as base:
                return safe_open.directories(os.path.dirname(target), base), name
        return safe_open.opened(directory, None, safe_open.DIRECTORY), name


def misplaced(listed: Sequence[Mount], mounted: Sequence[Step], base: str, devices: Sequence[int]) -> Iterator[str]:
    """Yield what is wrong with the mounts that were made: each must be one of `mounted`, and at its place.

    `devices` are those of the snapshots. What came with a live path lies below it.
    """
    left = {place(base, step.target): step for step in mounted}
    live = {place(base, step.target) for step in mounted if step.kind == "live"}
    seen: set[str] = set()
    for mount in listed:
        step = left.get(mount.path)
        if step and step.view_mount and not step.view_mount.device:
            number = devices[step.view_mount.snapshot]
            right = (f"{os.major(number)}:{os.minor(number)}", step.view_mount.inside)
            if (mount.device, mount.root) == right:
                seen.add(mount.path)
            elif not live & {mount.path, *above(mount.path)}:
                yield f"{mount.path} shows {mount.root} of device {mount.device}, and not {right[1]} of its snapshot"
        elif step:
            seen.add(mount.path)
        elif not live & set(above(mount.path)):
            yield f"{mount.path} is covered, which the plan does not have"
    for missing in left.keys() - seen:
        yield f"{missing} does not show its snapshot"


def is_in_snapshot(view_mount: ViewMount, found: Identity, known: Identity, device: int) -> bool:
    """Whether what was found in a snapshot, on this device, is what was known where it is live.

    The first directory of a snapshot of ZFS has a number that stands for the snapshot, and no longer the live one's.
    """
    if view_mount.inside == "/" and found.inode in ZFS_SNAPSHOTS:
        return found.device == device
    return found == Identity(device, known.inode, 0 if btrfs.apart(device) else known.subvolume)


def place(base: str, target: str) -> str:
    """Return where a target is mounted."""
    return base if target == "/" and base else base + target


def steps(plan: Plan, staging: str) -> tuple[Step, ...]:
    """Return the mounts of the view in their order: outer paths first, and on one path a live path first."""
    steps = [
        Step("snapshot", _source(plan, view_mount, staging), view_mount.target, view_mount)
        for view_mount in plan.view_mounts
    ]
    steps += [Step("live", live_path.path, live_path.path) for live_path in plan.live_paths]
    return tuple(sorted(steps, key=lambda step: (step.target.split("/"), step.kind == "snapshot")))


def _source(plan: Plan, view_mount: ViewMount, staging: str) -> str:
    if view_mount.device:
        return plan.snapshots[view_mount.snapshot].volume_device
    return staged(staging, view_mount.snapshot) + ("" if view_mount.inside == "/" else view_mount.inside)


def staged(staging: str, number: int) -> str:
    """Return where a snapshot is mounted before its paths are mounted."""
    return f"{staging}/{number}"


def numbers() -> frozenset[int]:
    """Return the numbers of the mounts in this process's namespace."""
    return frozenset(mount.id for mount in mounts.read())
