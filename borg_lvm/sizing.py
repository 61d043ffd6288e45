"""How large the copy-on-write space of each thick snapshot is to be. Pure.

The rule for `auto`: a fifth of the origin; when a group has not that much for all its volumes, four fifths of what
is free, shared in proportion; and never less than a twentieth of the origin, because a snapshot that is
probably too small is no backup.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from borg_lvm.config.size import Size
from borg_lvm.devices.lvm import Volume

AUTO_SHARE = 0.20
AUTO_FLOOR = 0.05
AUTO_LEAST = 16 * 1024 * 1024
AUTO_OF_FREE = 0.80


@dataclass(frozen=True)
class Allotted:
    """The space for one snapshot: whole extents, their bytes, and why so many."""

    extents: int
    size: int
    why: str


def human(count: float) -> str:
    """Return a number of bytes for a person, in powers of 1024."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and len(units) > 1:
        count /= 1024
        del units[0]
    unit = units[0]
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def allot(volumes: Sequence[Volume], size: Size) -> tuple[dict[str, Allotted], list[str]]:
    """Share the free space of each group among its thick snapshots.

    Returns the space by volume uuid, and one problem for each group that has not enough.
    """
    groups: defaultdict[str, list[Volume]] = defaultdict(list)
    for volume in volumes:
        groups[volume.vg_uuid].append(volume)
    allotted: dict[str, Allotted] = {}
    problems = []
    for members in groups.values():
        shares = _auto(members) if size.basis == "auto" else [_fixed(volume, size) for volume in members]
        needed = sum(share.size for share in shares)
        least = sum(_least(volume) for volume in members) if size.basis == "auto" else needed
        free = members[0].vg_free
        if needed > free or needed < least:
            problems.append(_too_little(members, max(needed, least), free, size))
        allotted |= {volume.uuid: share for volume, share in zip(members, shares, strict=True)}
    return allotted, problems


def _most(volume: Volume) -> int:
    """Return the size at which a snapshot cannot overflow any more: every chunk copied, and their table."""
    return volume.size + volume.size // 64 + 2 * volume.extent


def _least(volume: Volume) -> int:
    return min(_most(volume), max(AUTO_LEAST, int(volume.size * AUTO_FLOOR)))


def _extents(volume: Volume, size: float, why: str, *, down: bool = False) -> Allotted:
    count = int(size // volume.extent) if down else -int(-size // volume.extent)
    count = max(count, 1)
    return Allotted(count, count * volume.extent, why)


def _fixed(volume: Volume, size: Size) -> Allotted:
    whole = {"origin": volume.size, "free": volume.vg_free}
    wanted = whole[size.basis] * size.amount / 100 if size.basis in whole else size.amount
    most = _most(volume)
    if wanted > most:
        return _extents(volume, most, f"{size}, cut to the most that can ever be used")
    return _extents(volume, wanted, str(size), down=size.basis == "free")


def _auto(members: list[Volume]) -> list[Allotted]:
    wanted = [min(_most(volume), max(AUTO_LEAST, volume.size * AUTO_SHARE)) for volume in members]
    usable = members[0].vg_free * AUTO_OF_FREE
    if sum(wanted) <= usable:
        return [
            _extents(volume, size, f"auto: {AUTO_SHARE:.0%} of {human(volume.size)}")
            for volume, size in zip(members, wanted, strict=True)
        ]
    scale = usable / sum(wanted)
    free = human(members[0].vg_free)
    return [
        _extents(volume, size * scale, f"auto: its share of {AUTO_OF_FREE:.0%} of the {free} free", down=True)
        for volume, size in zip(members, wanted, strict=True)
    ]


def _too_little(members: list[Volume], needed: int, free: int, size: Size) -> str:
    names = ", ".join(volume.name for volume in members)
    return (
        f"volume group {members[0].vg} has {human(free)} free; snapshots of {names} with size {size} need at least "
        f"{human(needed)}: add a disk (vgextend), shrink or remove a volume, or ask for less with --snapshot-size"
    )
