"""The view: a private mount namespace in which each source path is covered by the same path of a snapshot.

`steps` decides in which order what is mounted where (pure); `build` does it, in the process that will become the
command, so nothing is ever mounted in the host's namespace and the kernel unmounts all of it with the last process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from borg_lvm import kernel, namespace
from borg_lvm.plan import Copy, Laid, Plan

MS_UNBINDABLE = 1 << 17


@dataclass(frozen=True)
class Step:
    """One mount: `source` (a folder of the staging area for a cover, a live path for a hole) bound on `target`."""

    kind: Literal["cover", "hole"]
    source: str
    target: str


def steps(plan: Plan, staging: str) -> tuple[Step, ...]:
    """Return the mounts of the view in their order: outer paths first, and on one path a hole before a cover."""
    found = [Step("cover", _source(plan, laid, staging), laid.target) for laid in plan.covers]
    found += [Step("hole", hole.path, hole.path) for hole in plan.holes]
    return tuple(sorted(found, key=lambda step: (step.target.split("/"), step.kind == "cover")))


def _source(plan: Plan, laid: Laid, staging: str) -> str:
    if laid.device:
        return plan.copies[laid.copy].volume_device
    return _join(_staged(staging, laid.copy), laid.inside)


def _staged(staging: str, number: int) -> str:
    return f"{staging}/{number}"


def _join(base: str, path: str) -> str:
    return base if path == "/" else base + path


def build(plan: Plan, staging: str, cwd: str) -> None:
    """Build the view around this process, which must be alone in it, and enter the working directory there.

    `staging` is an empty folder of ours. Errors: OSError, with a note of what was being mounted; RuntimeError when
    a source path does not show the snapshot in the end.
    """
    namespace.make_own()
    mount_copies(plan.copies, staging)
    root = f"{staging}/root" if plan.pivots else ""
    if root:
        os.mkdir(root)
    devices = [os.stat(copy.device).st_rdev for copy in plan.copies]
    todo = steps(plan, staging)
    live = {step: os.open(step.source, os.O_PATH | os.O_CLOEXEC) for step in todo if _is_live(step)}
    for step in todo:
        if step.kind == "cover":
            bind(step.source, root + step.target, kernel.MS_BIND)
        elif step in live:
            bind(f"/proc/self/fd/{live[step]}", root + step.target, kernel.MS_BIND | kernel.MS_REC)
    for fd in live.values():
        os.close(fd)
    if root:
        _pivot(root)
    else:
        kernel.umount(staging, kernel.MNT_DETACH)
    _prove(plan, devices)
    os.chdir(cwd)


def _is_live(step: Step) -> bool:
    return step.kind == "hole" and os.path.lexists(step.source)


def mount_copies(copies: Sequence[Copy], staging: str) -> None:
    """Mount every copy in the staging area, which is never seen from inside a folder that we bind."""
    kernel.mount("borg-lvm", staging, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, "mode=0700")
    kernel.mount(None, staging, None, MS_UNBINDABLE)
    for number, copy in enumerate(copies):
        if copy.raw:
            continue
        point = _staged(staging, number)
        os.mkdir(point)
        mount_copy(copy, point, kernel.MS_RDONLY)


def mount_copy(copy: Copy, point: str, flags: int) -> None:
    """Mount one copy. Errors: OSError, with a note of which."""
    try:
        kernel.mount(copy.device, point, copy.fstype, kernel.MS_NOSUID | kernel.MS_NODEV | flags, copy.options)
    except OSError as error:
        error.add_note(f"mounting {copy.device}, the copy of {copy.origin.full_name}, as {copy.fstype}")
        raise


def bind(source: str, target: str, flags: int) -> None:
    """Bind one path on another. Errors: OSError, with a note of which."""
    try:
        kernel.mount(source, target, None, flags)
    except OSError as error:
        error.add_note(f"covering {target}")
        raise


def _pivot(root: str) -> None:
    """Make the frozen root our root; the old one is detached (pivot_root(2), section NOTES)."""
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.umount(".", kernel.MNT_DETACH)
    os.chdir("/")


def _prove(plan: Plan, devices: Sequence[int]) -> None:
    """Check that every covered path really shows the copy, by the device number that the command will see."""
    for target in uncovered(plan, devices):
        raise RuntimeError(f"{target} does not show its snapshot")


def uncovered(plan: Plan, devices: Sequence[int]) -> list[str]:
    """Return the covered paths that do not show their copy, as seen by this process.

    A cover can vanish while the command runs: when somebody on the host replaces the covered file or folder itself
    (rename, rmdir), the kernel takes away what is mounted on it in every namespace.
    """
    return [laid.target for laid in plan.covers if _device_of(laid) != devices[laid.copy]]


def _device_of(laid: Laid) -> int:
    """Return the device that a covered path shows, 0 if none. A name that leads to a device may lead elsewhere now."""
    try:
        if laid.device:
            shown = {os.stat(path).st_rdev for path in (laid.target, laid.because)}
            return shown.pop() if len(shown) == 1 else 0
        return os.stat(laid.target).st_dev
    except OSError:
        return 0
