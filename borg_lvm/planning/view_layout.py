"""From source paths to what must be covered by a snapshot, and what must stay live. Pure.

A *frozen path* is one over which the same path of a snapshot is mounted; a *live path* lies below one and is bound
back live.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterator, Mapping, Sequence

from borg_lvm.machine.mounts import Mount, Table, above, nearest, raw, upwards
from borg_lvm.machine.paths import SeenPath
from borg_lvm.planning.left_out import LeftOut
from borg_lvm.plugins.backup_command import Excluded, LivePath
from borg_lvm.records import dataclass, field

# File systems that hold nothing to back up: the kernel's own windows. They stay live without a word of consent.
PSEUDO = frozenset(
    "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs "
    "proc pstore rpc_pipefs securityfs selinuxfs sysfs tracefs".split()
)
# What the command needs alive when it is moved into a frozen root.
ROOT_LIVE = (
    ("/dev", "devices"),
    ("/proc", "the kernel"),
    ("/sys", "the kernel"),
    ("/run", "sockets and run-time state"),
    ("/tmp", "the command's temporary files"),  # noqa: S108 - a mount point, not a file of ours
)
DECLARED = "declared live"
"""The reason of a live path that the user wants."""
NOT_THERE = os.strerror(errno.ENOENT)
MOST_SOURCES = 2000


@dataclass(frozen=True)
class FrozenPath:
    """A path that the view covers with `inside` of the file system mounted at `mount`.

    If the path is a block device, with that of the snapshot (`mount.fstype` is then `raw`).
    """

    target: str
    mount: Mount
    inside: str
    because: str


@dataclass(frozen=True)
class LiveBelow:
    """A path that stays live (and as writable as it is) although it lies below a frozen path."""

    path: str
    reason: str


@dataclass(frozen=True)
class Resolved:
    """What the view consists of. `live_sources` are sources that the user declared live, with the declaration.

    `left_out` says which mounts need no snapshot, of those too that come later; sources that do not exist
    are `absent`.
    """

    frozen: tuple[FrozenPath, ...]
    live_paths: tuple[LiveBelow, ...]
    live_sources: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: LeftOut = field(default_factory=LeftOut)
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """The question: these sources, these live paths (declared by the user, or needed by the command).

    `links` says where those of ROOT_LIVE lead that are symbolic links. `excluded` is what the command does not enter,
    `live_types` are the kinds of file systems that may be read live below a source. `skip_missing`: sources that do
    not exist are no reason to refuse the others. `skips_files`: to it a single file may be another file system as well.
    `named`: the user has named the sources that are to be frozen, of those that the command reads.
    """

    sources: tuple[SeenPath, ...]
    declared: tuple[SeenPath, ...] = ()
    needed: tuple[tuple[SeenPath, LivePath], ...] = ()
    one_file_system: bool = False
    skips_files: bool = False
    named: bool = False
    links: Mapping[str, str] = field(default_factory=dict)
    excluded: tuple[Excluded, ...] = ()
    live_types: tuple[str, ...] = ()
    skip_missing: bool = False


def resolve(wanted: Wanted, table: Table) -> Resolved:
    """Find every frozen path and every live path. Linear in sources and mounts, times the depth of their paths."""
    if len(wanted.sources) > MOST_SOURCES:
        return Resolved((), (), (), (_too_many(len(wanted.sources)),), ())
    absent = [seen for seen in wanted.sources if wanted.skip_missing and seen.error == NOT_THERE]
    missing = [seen for seen in (*wanted.sources, *wanted.declared) if seen.kind == "missing" and seen not in absent]
    problems = [f"{seen.given}: {seen.error}; check the spelling, or leave it out" for seen in missing]
    if any(seen.error == NOT_THERE for seen in missing if seen in wanted.sources):
        problems.append("with `missing_sources: skip` in the configuration, sources that do not exist are left out")
    targets, live_sources = _targets(wanted)
    problems += _conflicts(targets, wanted.needed)
    live = _live(wanted, targets)
    left_out = _left_out(wanted)
    frozen, live_paths = _nested(targets, live, table, left_out, one_file_system=wanted.one_file_system)
    unseen = {mount.path for mount in table.mounts if mount.hidden_from_root}
    live_paths = {path: live_path for path, live_path in (live | live_paths).items() if path not in unseen}
    frozen |= _own(targets, frozen, live_paths, table) | _devices(wanted.sources, targets)
    return Resolved(
        frozen=tuple(frozen[path] for path in sorted(frozen)),
        live_paths=tuple(
            below for _, below in sorted(live_paths.items()) if _is_hidden(below.path, targets, frozen, live_paths)
        ),
        live_sources=live_sources,
        problems=tuple(problems),
        notes=(
            *(f"{seen.given} does not exist: nothing of it will be in the backup" for seen in absent),
            *_notes(wanted.sources, targets),
            *_hidden(targets, live, table, left_out),
        ),
        left_out=left_out,
        absent=tuple(seen.given for seen in absent),
    )


def _left_out(wanted: Wanted) -> LeftOut:
    """Return what needs no snapshot, by the names that the command was given."""
    sources: dict[str, list[str]] = {}
    for seen in wanted.sources:
        if seen.kind != "missing" and not seen.error:
            sources.setdefault(seen.behind, []).append(seen.given)
    return LeftOut(wanted.excluded, wanted.live_types, sources)


def mounts_around(resolved: Resolved, table: Table) -> frozenset[tuple[str, str, str]]:
    """Return path, device and root of each mount at, above and below the frozen paths, outside the live paths.

    When the same question has another answer later, the plan is out of date.
    """
    frozen = {frozen_path.target for frozen_path in resolved.frozen}
    live_paths = {live_path.path for live_path in resolved.live_paths}
    around = {path for target in frozen for path in upwards(target)}
    mounts = set()
    for mount in table.mounts:
        ways = {mount.path, *above(mount.path)}
        if mount.hidden_from_root:  # its user may mount and unmount it as he likes
            continue
        below = ways & frozen and not ways & live_paths and not resolved.left_out.reason(mount)
        if mount.path in around or below:
            mounts.add((mount.path, mount.device, mount.root))
    return frozenset(mounts)


def _too_many(count: int) -> str:
    return (
        f"{count} source paths: each would be a mount of its own, and {MOST_SOURCES} is the most; name the "
        "directories that contain them with --path"
    )


def _targets(wanted: Wanted) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Return the paths to be frozen, each with the source as it was given, and the sources declared live.

    Of a link that is what it leads to; the link itself is left to what lies above it. A source below a declared path is
    live with it, unless that is a source itself, or the user has named those that are to be frozen: then who declares a
    root directory live that is not on LVM means the rest of it.
    """
    declared = {seen.behind: seen.given for seen in reversed(wanted.declared)}
    whole = {seen.behind for seen in wanted.sources}
    targets: dict[str, str] = {}
    live_sources = []
    for source in wanted.sources:
        path = source.behind
        if source.kind == "missing" or source.error:
            continue
        outer = nearest([path] if wanted.named else [path, *(way for way in above(path) if way not in whole)], declared)
        if outer is None:
            targets.setdefault(path, source.given)
        else:
            live_sources.append((source.given, declared[outer]))
    return targets, tuple(live_sources)


def _notes(sources: Sequence[SeenPath], targets: Mapping[str, str]) -> Iterator[str]:
    """Say of each link what is not frozen of it."""
    for source in sources:
        if source.kind != "link" or any(outer in targets for outer in above(source.real)):
            continue
        if source.error:
            yield f"{source.given} is a symbolic link that leads nowhere ({source.target}): it is read live"
        elif source.target in targets:
            yield f"{source.given} is a symbolic link: the link itself is read live, {source.target} is frozen"


def _hidden(targets: Container[str], live: Container[str], table: Table, left_out: LeftOut) -> Iterator[str]:
    """Say what the command finds empty because root may not read it; not where that was declared, or is left out."""
    for mount in table.mounts:
        outer = nearest(upwards(mount.path), targets, live)
        if mount.hidden_from_root and outer in targets and outer not in live and not left_out.reason(mount):
            yield (
                f"{mount.path} ({mount.fstype}) belongs to user {mount.hidden_from_root}, and not even root may read "
                "it: it is not in the backup"
            )


def _conflicts(targets: Mapping[str, str], needed: Sequence[tuple[SeenPath, LivePath]]) -> list[str]:
    """Refuse a path that must be live and is a source, or lies between two (what is to be seen there?).

    One that merely contains a source is live anyway, because nothing covers it; the source alone is covered.
    """
    live = {seen.behind: live for seen, live in reversed(needed)}
    return [
        f"{given}: must be frozen, but {live[outer].path} ({live[outer].reason}) must stay live and is, or contains, "
        "it; put the one outside the other, or declare the source live"
        for target, given in targets.items()
        for outer in upwards(target)
        if outer in live and (outer == target or any(further in targets for further in above(outer)))
    ]


def _live(wanted: Wanted, targets: Mapping[str, str]) -> dict[str, LiveBelow]:
    """Return the paths that stay live whatever is mounted there: declared, needed, or needed by any command."""
    live: dict[str, LiveBelow] = {}
    for seen in wanted.declared:
        live.setdefault(seen.behind, LiveBelow(seen.behind, DECLARED))
    for seen, needed in wanted.needed:
        if seen.kind != "missing" or needed.make:
            live.setdefault(seen.behind, LiveBelow(seen.behind, needed.reason))
    for name, reason in ROOT_LIVE if "/" in targets else ():
        path = wanted.links.get(name, name)
        if path not in targets:
            live.setdefault(path, LiveBelow(path, reason))
    return live


def _nested(
    targets: Mapping[str, str], live: Mapping[str, LiveBelow], table: Table, left_out: LeftOut, *, one_file_system: bool
) -> tuple[dict[str, FrozenPath], dict[str, LiveBelow]]:
    """Decide about every mount below a target that is no target itself: it is covered too, or it is a live path.

    What is mounted below a live path is left to it. `one_file_system`: a program knows a file system by its device
    number, so it enters a bind mount of the one that it began in.
    """
    frozen: dict[str, FrozenPath] = {}
    live_paths: dict[str, LiveBelow] = {}
    own = {target: table.of(target).device for target in targets} if one_file_system else {}
    for mount in table.mounts:
        path = mount.path
        outer = nearest(upwards(path), targets, live)
        if outer is None or outer in live or outer == path or mount.hidden_from_root:
            continue
        if mount.fstype in PSEUDO and not mount.is_trigger:
            live_paths[path] = LiveBelow(path, f"{mount.fstype}, nothing to back up")
        elif one_file_system and (mount.device != own[outer] or _below_another(path, outer, live_paths)):
            live_paths[path] = LiveBelow(path, "another file system, which the command does not enter")
        elif why := left_out.reason(mount):
            live_paths[path] = LiveBelow(path, why)
        else:
            frozen[path] = FrozenPath(path, mount, mount.root, f"mounted below {targets[outer]}")
    return frozen, live_paths


def _below_another(path: str, outer: str, live_paths: Mapping[str, LiveBelow]) -> bool:
    """Return whether the way from a target to a mount leads through what the command does not enter."""
    return any(directory in live_paths for directory in above(path) if len(directory) > len(outer))


def _own(
    targets: Mapping[str, str], nested: Mapping[str, FrozenPath], live_paths: Mapping[str, LiveBelow], table: Table
) -> dict[str, FrozenPath]:
    """Return the frozen paths of the targets themselves; one that an outer frozen path shows already needs none."""
    mounts = {target: table.of(target) for target in targets} | {path: below.mount for path, below in nested.items()}
    frozen = {}
    for target, given in targets.items():
        mount = mounts[target]
        outer = nearest(above(target), mounts, live_paths)
        if outer is None or outer in live_paths or mounts[outer].id != mount.id:
            frozen[target] = FrozenPath(target, mount, mount.inside(target), given)
    return frozen


def _devices(sources: Sequence[SeenPath], targets: Mapping[str, str]) -> dict[str, FrozenPath]:
    """Return the frozen paths of the targets that are block devices themselves."""
    return {
        seen.behind: FrozenPath(seen.behind, raw(seen.device, seen.behind), "/", targets[seen.behind])
        for seen in sources
        if seen.device and seen.behind in targets
    }


def _is_hidden(path: str, targets: Container[str], frozen: Container[str], live_paths: Container[str]) -> bool:
    """Return whether a frozen path would hide this path: a live path is bound with all that is mounted below it."""
    outer = nearest(above(path), targets, frozen, live_paths)
    return outer is not None and outer not in live_paths
