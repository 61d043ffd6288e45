"""How large the copy-on-write space of each thick snapshot is to be. Pure.

The rule for `auto`: a fifth of the origin; when four fifths of what is free in a group are not enough for that, its
snapshots share them; and never less than a twentieth of the origin, because a snapshot that is probably too small is
no backup. All is counted in whole extents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from borg_lvm.config.size import Size
from borg_lvm.devices.lvm import Volume

AUTO_SHARE = 20
AUTO_FLOOR = 5
AUTO_OF_FREE = 80
"""Per cent of the origin, of the origin, and of the free space."""
AUTO_LEAST = 16 * 1024 * 1024


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
        if needed > members[0].vg_free:
            problems.append(_too_little(members, needed, size))
        allotted |= {volume.uuid: share for volume, share in zip(members, shares, strict=True)}
    return allotted, problems


def most(volume: Volume) -> int:
    """Return the size at which a snapshot cannot overflow any more: every chunk copied, and their table."""
    return volume.size + volume.size // 64 + 2 * volume.extent


def _allotted(volume: Volume, extents: int, why: str) -> Allotted:
    return Allotted(extents, extents * volume.extent, why)


def _extents(volume: Volume, size: int) -> int:
    """Return how many whole extents hold that many bytes, at least one."""
    return max(1, -(-size // volume.extent))


def _fixed(volume: Volume, size: Size) -> Allotted:
    whole = {"origin": volume.size, "free": volume.vg_free}
    wanted = whole[size.basis] * size.amount // 100 if size.basis in whole else size.amount
    limit = most(volume)
    if wanted > limit:
        return _allotted(volume, _extents(volume, limit), f"{size}, cut to the most that can ever be used")
    if size.basis == "free":  # rounded down: several parts of what is free must fit into it
        return _allotted(volume, max(1, wanted // volume.extent), str(size))
    return _allotted(volume, _extents(volume, wanted), str(size))


def _auto(members: Sequence[Volume]) -> list[Allotted]:
    wanted = [_part(volume, AUTO_SHARE) for volume in members]
    least = [_part(volume, AUTO_FLOOR) for volume in members]
    usable = members[0].vg_free // members[0].extent * AUTO_OF_FREE // 100
    if sum(wanted) <= usable:
        return [
            _allotted(volume, extents, f"auto: {_whole(volume, AUTO_SHARE)}")
            for volume, extents in zip(members, wanted, strict=True)
        ]
    spare, more = max(0, usable - sum(least)), sum(wanted) - sum(least)
    if spare == 0:
        return [
            _allotted(volume, extents, f"auto: the least that is any good, {_whole(volume, AUTO_FLOOR)}")
            for volume, extents in zip(members, least, strict=True)
        ]
    why = f"auto: its share of {AUTO_OF_FREE}% of the {human(members[0].vg_free)} free"
    return [
        _allotted(volume, low + (high - low) * spare // more, why)
        for volume, low, high in zip(members, least, wanted, strict=True)
    ]


def _part(volume: Volume, percent: int) -> int:
    """Return a part of a volume in extents, within sense: neither tiny nor more than can ever be used."""
    return _extents(volume, min(most(volume), max(AUTO_LEAST, volume.size * percent // 100)))


def _whole(volume: Volume, percent: int) -> str:
    return f"{percent}% of {human(volume.size)}"


def _too_little(members: Sequence[Volume], needed: int, size: Size) -> str:
    free = members[0].vg_free
    names = ", ".join(volume.name for volume in members)
    return (
        f"volume group {members[0].vg} has {human(free)} free; snapshots of {names} with size {size} need at least "
        f"{human(needed)}, {human(needed - free)} more: add a disk (vgextend), shrink or remove a volume, or ask for "
        "less with --snapshot-size"
    )
