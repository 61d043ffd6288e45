"""How large the copy-on-write space of each thick snapshot is to be. Pure.

The rule for `auto`: half as much again as the last runs have used. For a volume of which none is known, a fifth of the
origin, or two if it is so busy that an hour would fill one. But never less than a burst may write while LVM makes the
snapshot larger, whatever the past says (FLOOR): free extents are there to be used, and are free again after the run.

When four fifths of what is free in a group are not enough for that, its snapshots share them, and other runs find the
rest; all of it if that is nearly as much as can ever be used. And never less than a twentieth of the origin, if no run
is known to have needed less, because a snapshot that is probably too small is no backup. All is counted in whole
extents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from borg_lvm.config.size import Size
from borg_lvm.machine.lvm import Volume
from borg_lvm.planning.usage_estimate import Once, expected

AUTO = Size()
AUTO_SHARE = 20
AUTO_FLOOR = 5
AUTO_OF_FREE = 80
"""Per cent of the origin, of the origin, and of the free space."""
AUTO_LEAST = 16 * 1024 * 1024
FASTEST = 256 << 20
"""Bytes per second that may suddenly come: what disks of servers write beside copying into a snapshot."""
SLOWEST = 8
"""Seconds that LVM may need to make a snapshot larger: one here, more on a busy machine."""
FLOOR = FASTEST * SLOWEST
ENOUGH = 90
"""Per cent of what can ever be used that are as good as all of it."""
HOUR = 3600


@dataclass(frozen=True)
class Allotted:
    """The space for one snapshot: whole extents, their bytes, why so many; and whether it is what past runs needed."""

    extents: int
    size: int
    why: str
    measured: bool = False


def human(count: float) -> str:
    """Return a number of bytes for a person, in powers of 1024."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and len(units) > 1:
        count /= 1024
        del units[0]
    unit = units[0]
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


@dataclass(frozen=True)
class Known:
    """What else decides on sizes: those of certain volumes (by `vg/lv`), and the limits of `auto`.

    And what is known of volumes, by their uuid: what the last runs have used, how many bytes per second are written to
    it now, how many bytes of its file system are in use.
    """

    sizes: Mapping[str, Size] = field(default_factory=dict)
    minimum: Size = AUTO
    maximum: Size = AUTO
    past: Mapping[str, Sequence[Once]] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Share:
    """What a snapshot should have, and the least that will do: extents."""

    least: int
    wanted: int
    why: str
    why_least: str = ""
    measured: bool = False
    most: int = 0


def allot(volumes: Sequence[Volume], size: Size, known: Known | None = None) -> tuple[dict[str, Allotted], list[str]]:
    """Share the free space of each group among its thick snapshots.

    Returns the space by volume uuid, and one problem for each group that has not enough.
    """
    groups: defaultdict[tuple[str, ...], list[Volume]] = defaultdict(list)
    for volume in volumes:
        groups[volume.vg_uuid, str(volume.vg_coarse), *volume.vg_disks].append(volume)
    allotted: dict[str, Allotted] = {}
    problems = []
    for members in groups.values():
        sizes = [(known or Known()).sizes.get(volume.full_name, size) for volume in members]
        wishes = [_share(volume, own, known or Known()) for volume, own in zip(members, sizes, strict=True)]
        shares = _shared(members, wishes)
        needed = sum(share.size for share in shares)
        if needed > members[0].vg_free:
            problems.append(_too_little(members, needed, " and ".join(dict.fromkeys(map(str, sizes)))))
        allotted |= {volume.uuid: share for volume, share in zip(members, shares, strict=True)}
    return allotted, problems


def limit(volume: Volume, known: Known) -> int:
    """Return up to how many bytes a snapshot may grow."""
    return min(most(volume), _bytes(known.maximum, volume, known, most(volume)))


def most(volume: Volume) -> int:
    """Return the size at which a snapshot cannot overflow any more: every chunk copied, and their table."""
    return volume.size + volume.size // 64 + 2 * volume.extent


def _allotted(volume: Volume, extents: int, why: str) -> Allotted:
    return Allotted(extents, extents * volume.extent, why)


def _extents(volume: Volume, size: int) -> int:
    """Return how many whole extents hold that many bytes, at least one."""
    return max(1, -(-size // volume.extent))


def _bytes(size: Size, volume: Volume, known: Known, auto: int) -> int:
    whole = {"origin": volume.size, "free": volume.vg_free, "used": known.used.get(volume.uuid, volume.size)}
    if size.basis == "auto":
        return auto
    return whole[size.basis] * size.amount // 100 if size.basis in whole else size.amount


def _share(volume: Volume, size: Size, known: Known) -> _Share:
    if size.basis == "auto":
        return _auto(volume, known)
    wanted, top = _bytes(size, volume, known, 0), most(volume)
    if wanted > top:
        extents, why = _extents(volume, top), f"{size}, cut to the most that can ever be used"
    elif size.basis == "free":  # rounded down: several parts of what is free must fit into it
        extents, why = max(1, wanted // volume.extent), str(size)
    else:
        extents, why = _extents(volume, wanted), str(size)
    return _Share(extents, extents, why)


def _auto(volume: Volume, known: Known) -> _Share:
    def bounded(count: int) -> int:
        """Return extents within sense: neither tiny nor more than is allowed or can ever be used."""
        at_least = _bytes(known.minimum, volume, known, AUTO_LEAST)
        return _extents(volume, min(limit(volume, known), max(at_least, count)))

    top, floor = _extents(volume, limit(volume, known)), bounded(FLOOR)
    least = bounded(volume.size * AUTO_FLOOR // 100)
    why_least = f"auto: the least that is any good, {_whole(volume, AUTO_FLOOR)}"
    speed = known.speeds.get(volume.uuid, 0.0)
    need = expected(known.past.get(volume.uuid, ()), speed)
    if need:
        why = f"auto: {need.why.format(human(need.used))}"
        share = _Share(min(least, bounded(need.used)), bounded(need.size), why, why, measured=True, most=top)
    elif speed * HOUR > volume.size * AUTO_SHARE // 100:
        why = f"auto: {_whole(volume, 2 * AUTO_SHARE)}, for it is busy: {human(speed)}/s are written"
        share = _Share(least, bounded(volume.size * 2 * AUTO_SHARE // 100), why, why_least, most=top)
    else:
        wanted = bounded(volume.size * AUTO_SHARE // 100)
        share = _Share(least, wanted, f"auto: {_whole(volume, AUTO_SHARE)}", why_least, most=top)
    if share.wanted >= floor:
        return share
    why = "all that it can ever use" if floor == top else f"{SLOWEST} s of a burst at {human(FASTEST)}/s"
    return replace(share, wanted=floor, why=f"auto: {why}", measured=False)


def _shared(members: Sequence[Volume], wishes: Sequence[_Share]) -> list[Allotted]:
    """Give each what it wants; where `auto` wants too much, its snapshots share what is left in proportion."""
    auto = [wish for wish in wishes if wish.why_least]
    fixed = sum(wish.wanted for wish in wishes if not wish.why_least)
    free = max(0, members[0].vg_free // members[0].extent - fixed)
    part = 100 if free * 100 >= sum(wish.most for wish in auto) * ENOUGH else AUTO_OF_FREE
    usable = free * part // 100
    wanted, least = sum(wish.wanted for wish in auto), sum(wish.least for wish in auto)
    spare, more = max(0, usable - least), wanted - least
    share = f"auto: its share of {part}% of the {human(members[0].vg_free)} free"

    def given(volume: Volume, wish: _Share) -> Allotted:
        if not wish.why_least or wanted <= usable:
            return replace(_allotted(volume, wish.wanted, wish.why), measured=wish.measured)
        if not spare:
            return _allotted(volume, wish.least, wish.why_least)
        return _allotted(volume, wish.least + (wish.wanted - wish.least) * spare // more, share)

    return [given(volume, wish) for volume, wish in zip(members, wishes, strict=True)]


def _whole(volume: Volume, percent: int) -> str:
    return f"{percent}% of {human(volume.size)}"


def _too_little(members: Sequence[Volume], needed: int, size: str) -> str:
    free = members[0].vg_free
    names = ", ".join(volume.name for volume in members)
    more = f", {human(needed - free)} more" if free else ""
    reserved = members[0].vg_reserved
    why = " or with larger logical blocks" if members[0].vg_coarse else ""
    elsewhere = f" ({human(reserved)} more are on disks with `pvchange --allocatable n`{why})" if reserved else ""
    return (
        f"volume group {members[0].vg} has {human(free)} free{elsewhere}; snapshots of {names} with size {size} "
        f"need at least {human(needed)}{more}: add a disk (vgextend), shrink or remove a volume, or ask for less with "
        "--snapshot-size"
    )
