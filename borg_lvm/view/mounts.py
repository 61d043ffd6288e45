"""The view: a private mount namespace in which each source path is covered by the same path of a snapshot.

`laying.steps` decides in which order what is mounted where; `build` does it, in the process that will become the
command, so nothing is ever mounted in the host's namespace and the kernel unmounts all of it with the last process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import namespaces, safe_open, syscalls
from borg_lvm.linux.safe_open import Identity
from borg_lvm.machine import mounts
from borg_lvm.planning.plan import Plan, Snapshot, ViewMount
from borg_lvm.snapshots.providers import provider
from borg_lvm.view import mounting
from borg_lvm.view.path_watch import Watch

MS_UNBINDABLE = 1 << 17


def build(plan: Plan, staging: str, cwd: str) -> None:
    """Build the view around this process, which must be alone in it, and enter the working directory there.

    `staging` is an empty directory of ours. Raises: OSError, with a note of what was being mounted; SnapshotError when
    a path is not what the survey saw, or a mount does not lie where the plan has it in the end.
    """
    namespaces.make_own()
    before = mounting.numbers()
    mount_snapshots(plan.snapshots, staging)
    root = f"{staging}/root" if plan.pivots else ""
    devices = device_numbers(plan)
    with mounting.Ground(plan.seen, root, mounting.steps(plan, staging)) as ground:
        mounted = ground.mount_all()
    if root:
        _pivot(root)
        before = frozenset()
    else:
        syscalls.umount(staging, syscalls.MNT_DETACH)
    new = [mount for mount in mounts.read() if mount.id not in before]
    wrong = [*mounting.misplaced(new, mounted, "", devices), *uncovered(plan, devices)]
    if wrong:
        raise SnapshotError(wrong[0], remedy="run it again")
    safe_open.enter(cwd)


def device_numbers(plan: Plan) -> tuple[int, ...]:
    """Return the device number of each snapshot (`st_dev` of what is on it). Raises: OSError."""
    return tuple(provider().device(snapshot) for snapshot in plan.snapshots)


def mount_snapshots(snapshots: Sequence[Snapshot], staging: str) -> None:
    """Mount every snapshot in the staging area, which is never seen from inside a directory that we bind."""
    syscalls.mount(
        "borg-lvm", staging, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC, "mode=0700"
    )
    syscalls.mount(None, staging, None, MS_UNBINDABLE)
    for number, snapshot in enumerate(snapshots):
        if snapshot.raw:
            continue
        point = mounting.staged(staging, number)
        os.mkdir(point)
        provider().mount(snapshot, point, syscalls.MS_RDONLY)


def _pivot(root: str) -> None:
    """Make the frozen root our root; the old one is detached (pivot_root(2), section NOTES)."""
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def uncovered(plan: Plan, devices: Sequence[int], base: str = "") -> list[str]:
    """Return the covered paths that do not show their snapshot, as seen by this process.

    A frozen path can vanish while the command runs: when somebody on the host replaces the covered file or
    directory itself (rename, rmdir), the kernel takes away what is mounted on it in every namespace.
    """
    return [
        mounting.place(base, view_mount.target)
        for view_mount in plan.view_mounts
        if not _shows(
            view_mount,
            mounting.place(base, view_mount.target),
            devices[view_mount.snapshot],
            plan.seen.get(view_mount.target),
        )
    ]


def _shows(view_mount: ViewMount, where: str, device: int, known: Identity | None) -> bool:
    """Return whether a path shows its snapshot. A name that leads to a device may lead elsewhere now."""
    if view_mount.device:
        return safe_open.device_at(where) == safe_open.device_at(view_mount.because, links=True) == device
    return known is not None and mounting.is_in_snapshot(view_mount, safe_open.shown(where), known, device)


def follow(plan: Plan, watch: Watch) -> list[str]:
    """Watch the way to each source as this process, in the view, sees it; return those that lead elsewhere.

    What lies in a snapshot cannot change, but need not be what the survey saw: a directory that was a link at the
    instant leads out of the snapshot. What was removed before the instant is the command's to report. Raises: OSError.
    """
    for way, _ in plan.ways.values():
        try:
            watch.add(way)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            error.add_note(f"watching {way}; fs.inotify.max_user_watches (sysctl) says how much can be watched")
            raise
    return led_elsewhere(plan)


def led_elsewhere(plan: Plan) -> list[str]:
    """Return the sources whose names lead to another place, in the view, than when the survey looked."""
    return [given for given, (way, real) in plan.ways.items() if safe_open.leads_to(way) != real]


def appeared(plan: Plan, devices: Sequence[int]) -> list[str]:
    """Return the sources that did not exist, and that this process, in the view, finds live now."""
    there = [name for name in plan.absent if safe_open.is_there(name)]
    return [name for name in there if safe_open.device_behind(name) not in devices]


def linked(plan: Plan, base: str) -> list[str]:
    """Return the sources that lead through a link in the view that stands at `base`."""
    links = []
    for given, (_, real) in plan.ways.items():
        try:
            os.close(safe_open.opened(mounting.place(base, real)))
        except OSError as error:
            if safe_open.is_link(error):
                links.append(given)
    return links
