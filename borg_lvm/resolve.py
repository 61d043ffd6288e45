"""From source paths to what must be covered by a snapshot, and what must stay live. Pure.

The words: a *cover* is a path over which the same path of a snapshot is laid; a *hole* is a path below a cover
that is bound back live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from borg_lvm.command import LivePath
from borg_lvm.devices.mounts import Mount, Table, is_below
from borg_lvm.devices.paths import SeenPath

# File systems that hold nothing to back up: the kernel's own windows. They stay live without a word of consent.
PSEUDO = frozenset(
    "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs "
    "proc pstore rpc_pipefs securityfs selinuxfs sysfs tracefs".split()
)
# What the command needs alive when it is moved into a frozen root.
ROOT_HOLES = (
    ("/dev", "devices"),
    ("/proc", "the kernel"),
    ("/sys", "the kernel"),
    ("/run", "sockets and run-time state"),
    ("/tmp", "the command's temporary files"),  # noqa: S108 - a mount point, not a file of ours
)


@dataclass(frozen=True)
class Cover:
    """A path that the view covers with `inside` of the file system mounted at `mount`."""

    target: str
    mount: Mount
    inside: str
    because: str


@dataclass(frozen=True)
class Hole:
    """A path that stays live (and as writable as it is) although it lies below a cover."""

    path: str
    reason: str


@dataclass(frozen=True)
class Resolved:
    """What the view consists of. `live_sources` are sources that the user declared live, with the declaration."""

    covers: tuple[Cover, ...]
    holes: tuple[Hole, ...]
    live_sources: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """The question: these sources, these live paths (declared by the user, or needed by the command)."""

    sources: tuple[SeenPath, ...]
    declared: tuple[SeenPath, ...] = ()
    needed: tuple[tuple[SeenPath, LivePath], ...] = ()
    one_file_system: bool = False


def resolve(wanted: Wanted, table: Table) -> Resolved:
    """Find every cover and every hole. Linear in sources times mounts."""
    problems = [_missing(seen) for seen in (*wanted.sources, *wanted.declared) if seen.kind == "missing"]
    notes: list[str] = []
    targets: dict[str, str] = {}
    live_sources = []
    for source in wanted.sources:
        if source.kind == "missing":
            continue
        for path in _paths_of(source, notes):
            over = _first_above(path, wanted.declared)
            if over:
                live_sources.append((source.given, over.given))
            else:
                targets.setdefault(path, source.given)
    problems += _conflicts(targets, wanted.needed)
    nested_holes = [] if "/" not in targets else [Hole(p, why) for p, why in ROOT_HOLES if p not in targets]
    holes = _holes(wanted, targets) + nested_holes
    covers, more_holes = _covers(targets, holes, table, wanted.one_file_system)
    return Resolved(
        covers=tuple(covers),
        holes=tuple(_outermost(holes + more_holes)),
        live_sources=tuple(live_sources),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _missing(source: SeenPath) -> str:
    return f"{source.given}: {source.error}; check the spelling, or leave it out"


def _paths_of(source: SeenPath, notes: list[str]) -> list[str]:
    """Return what to cover for a source: itself, or for a link what it leads to (the link itself is read live)."""
    if source.kind != "link":
        return [source.real]
    notes.append(f"{source.given} is a symbolic link: the link itself is read live, {source.target} is frozen")
    return [source.target]


def _first_above(path: str, seen: Sequence[SeenPath]) -> SeenPath | None:
    return next((one for one in seen if is_below(path, one.target or one.real)), None)


def _conflicts(targets: dict[str, str], needed: Sequence[tuple[SeenPath, LivePath]]) -> list[str]:
    """Refuse a path that must be live and contains a source: keeping it live would leave the source unfrozen."""
    found = []
    for seen, live in needed:
        path = seen.target or seen.real
        found += [
            f"{given}: must be frozen, but {live.path} ({live.reason}) must stay live and contains it; "
            "put the one outside the other, or declare the source live"
            for target, given in targets.items()
            if is_below(target, path)
        ]
    return found


def _holes(wanted: Wanted, targets: dict[str, str]) -> list[Hole]:
    """Return the live paths that some cover would hide."""
    holes = [Hole(seen.target or seen.real, "declared live") for seen in wanted.declared]
    holes += [
        Hole(seen.target or seen.real, live.reason)
        for seen, live in wanted.needed
        if seen.kind != "missing" or live.make
    ]
    return [hole for hole in holes if any(is_below(hole.path, target) for target in targets)]


def _covers(
    targets: dict[str, str], holes: list[Hole], table: Table, one_file_system: bool
) -> tuple[list[Cover], list[Hole]]:
    covers: dict[str, Cover] = {}
    nested_holes: list[Hole] = []
    for target in sorted(targets):
        mount = table.of(target)
        outer = _above(target, covers)
        if outer is None or outer.mount.id != mount.id:
            covers[target] = Cover(target, mount, mount.inside(target), targets[target])
        for nested in table.below(target):
            if nested.path in covers or any(is_below(nested.path, hole.path) for hole in holes):
                continue
            if nested.fstype in PSEUDO:
                nested_holes.append(Hole(nested.path, f"{nested.fstype}, nothing to back up"))
            elif one_file_system and nested.path not in targets:
                nested_holes.append(Hole(nested.path, "another file system, which the command does not enter"))
            else:
                because = targets.get(nested.path, f"mounted below {targets[target]}")
                covers[nested.path] = Cover(nested.path, nested, nested.root, because)
    return [covers[path] for path in sorted(covers)], nested_holes


def _above(path: str, covers: dict[str, Cover]) -> Cover | None:
    """Return the innermost cover that `path` lies below."""
    found = [cover for target, cover in covers.items() if is_below(path, target)]
    return max(found, key=lambda cover: len(cover.target), default=None)


def _outermost(holes: list[Hole]) -> list[Hole]:
    """Drop holes inside other holes: a hole is bound with all that is mounted below it."""
    kept: list[Hole] = []
    for hole in sorted(holes, key=lambda hole: hole.path):
        if not any(is_below(hole.path, outer.path) for outer in kept):
            kept.append(hole)
    return kept
