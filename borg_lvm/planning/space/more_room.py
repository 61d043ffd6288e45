"""How snapshots get more space: one's entry in the configuration, and what their group lacks. Pure.

`--snapshot-size` would not do: it is the size of every thick snapshot of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from borg_lvm.planning.snapshot_size import human, most, share_key
from borg_lvm.planning.space.chunk_size import AUTO
from borg_lvm.records import dataclass

if TYPE_CHECKING:
    from borg_lvm.machine.lvm import Volume
    from borg_lvm.planning.plan import Snapshot

T = TypeVar("T")
MIB = 1 << 20
LARGE = 10 << 30
"""From so many bytes on, sizes are named in whole GiB."""


@dataclass(frozen=True)
class NextSize:
    """A thick snapshot of a run, and the bytes that it is to have next time; `lost`: more than it had."""

    snapshot: Snapshot
    size: int
    lost: bool = True


@dataclass(frozen=True)
class Shortage:
    """A volume group that has less free space than `auto` would take: what of it, what that means, what to do."""

    group: str
    message: str
    remedy: str


def shortages(snapshots: Sequence[Snapshot]) -> Iterator[Shortage]:
    """Yield the groups in which `auto` would make larger snapshots if there were more free space."""
    for members in _groups(snapshots, lambda snapshot: snapshot):
        first, wanted = members[0].origin, sum(snapshot.wanted or snapshot.size for snapshot in members)
        if wanted <= first.vg_free or not any(snapshot.wanted for snapshot in members):
            continue
        names = ", ".join(snapshot.origin.name for snapshot in members)
        which = f"snapshots of {names}" if len(members) > 1 else f"snapshot of {names}"
        yield Shortage(
            first.vg,
            f"has {human(first.vg_free)} free{_disks(first)}, less than the {human(wanted)} that the {which} should "
            "have; if one is full before the backup has ended, the backup is invalid (status 74)",
            f"add a disk (pvs; vgextend {first.vg} DEVICE), or remove kept snapshots (borg-lvm clean --run ID)",
        )


def advice(wanted: Sequence[NextSize]) -> str:
    """Say how those which were lost get their sizes. `wanted` are all thick snapshots of the run."""
    lost = [one for one in wanted if one.lost]
    entries = ", ".join(f"{{volume: {one.snapshot.origin.full_name}, size: {_amount(one.size)}}}" for one in lost)
    certain = all(one.size >= most(one.snapshot.origin, one.snapshot.chunk) for one in lost)
    which = "it" if len(lost) == 1 else "they"
    return "".join(
        (
            f"in the configuration, snapshot: {{volumes: [{entries}]}}",
            f", with which {which} cannot be lost" if certain else "",
            *_extensions(wanted),
        )
    )


def missing(members: Sequence[NextSize]) -> int:
    """Return how many bytes the free space of a group must grow by for all of these, as `allot` would count them."""
    parts = [one.snapshot for one in members if one.snapshot.of_free and not one.lost]
    fixed = sum(_space(one) for one in members if one.snapshot not in parts) + sum(
        snapshot.origin.extent for snapshot in parts
    )
    left = 100 - sum(snapshot.of_free for snapshot in parts)
    return -(-fixed * 100 // max(1, left)) - members[0].snapshot.origin.vg_free


def _extensions(wanted: Sequence[NextSize]) -> Iterator[str]:
    """Yield for each group that has not enough how much it lacks."""
    for members in _groups(wanted, lambda one: one.snapshot):
        short = missing(members)
        if short <= 0 or not any(one.lost for one in members):
            continue
        first = members[0].snapshot.origin
        others = ", ".join(one.snapshot.origin.full_name for one in members if not one.lost)
        beside = f", beside the snapshot of {others}" if others else ""
        yield f", for which {first.vg} needs {_amount(short, ' ')}iB more free space{_disks(first)} (vgextend){beside}"


def _groups(items: Sequence[T], snapshot: Callable[[T], Snapshot]) -> Iterable[list[T]]:
    """Return the thick snapshots of a run, those together which share the same free space."""
    groups: dict[tuple[str, ...], list[T]] = {}
    for item in items:
        if snapshot(item).extents:
            groups.setdefault(share_key(snapshot(item).origin), []).append(item)
    return groups.values()


def _disks(volume: Volume) -> str:
    return f" on {', '.join(volume.vg_disks)}" if volume.vg_chosen else ""


def _space(one: NextSize) -> int:
    """Return the bytes of the whole extents that a snapshot gets for its size as it is named."""
    snapshot, size = one.snapshot, one.size
    if one.lost:
        size = min(_rounded(size), most(snapshot.origin, max(snapshot.chunk, AUTO[-1])))
    return -(-size // snapshot.origin.extent) * snapshot.origin.extent


def _rounded(size: int) -> int:
    unit = MIB << 10 if -(-size // MIB) * MIB >= LARGE else MIB
    return -(-size // unit) * unit


def _amount(size: int, space: str = "") -> str:
    """Return a number of bytes as the configuration takes it, never less."""
    mib = _rounded(size) // MIB
    return f"{mib // 1024}{space}G" if mib * MIB >= LARGE else f"{mib}{space}M"
