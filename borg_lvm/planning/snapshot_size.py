"""How large the copy-on-write space of each thick snapshot is to be. Pure.

The rule for `auto`: half as much again as the last runs have used. For a volume of which none is known, a fifth of the
origin, or two if it is so busy that an hour would fill one. But never less than a burst may write while LVM makes the
snapshot larger, whatever the past says (FLOOR): free extents are there to be used, and are free again after the run.

Which chunks a snapshot gets, `space/chunk_size.py` says; the larger they are, the more space it needs. Where that is
not free, all of a group have smaller ones.

When four fifths of what is free in a group are not enough for that, its snapshots share them, and other runs find the
rest; all of it if that is nearly as much as can ever be used. And never less than a twentieth of the origin, if no run
is known to have needed less, because a snapshot that is probably too small is no backup. All is counted in whole
extents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from borg_lvm.config.size import Size
from borg_lvm.machine.lvm import Volume
from borg_lvm.planning.space import chunk_size
from borg_lvm.planning.space.chunk_size import AUTO as AUTO_CHUNKS
from borg_lvm.planning.space.chunk_size import Chunk, Pattern, Writes
from borg_lvm.planning.space.usage_estimate import LVM_CHUNK, Once, expected
from borg_lvm.records import dataclass, field

AUTO = Size()
AUTO_SHARE, AUTO_FLOOR, AUTO_OF_FREE = 20, 5, 80
"""Per cent of the origin, of the origin, and of the free space."""
AUTO_LEAST, FASTEST = 16 << 20, 256 << 20
"""Bytes; and bytes per second that may suddenly come: what disks of servers write beside copying into a snapshot."""
SLOWEST = 8
"""Seconds that LVM may need to make a snapshot larger: one here, more on a busy machine."""
FLOOR = FASTEST * SLOWEST
ENOUGH = 90
"""Per cent of what can ever be used that are as good as all of it."""
HOUR, FEW_CHUNKS = 3600, 16
"""Seconds; so many chunks a space has at least. LVM refuses one of less than three."""


@dataclass(frozen=True)
class Allotted:
    """The space for one snapshot: whole extents, their bytes, why so many; and whether it is what past runs needed.

    `chunk`: the pieces in which it is filled. `wanted`: the bytes that `auto` would take if they were free, else 0.
    """

    extents: int
    size: int
    why: str
    measured: bool = False
    chunk: Chunk = field(default_factory=Chunk)
    wanted: int = 0


def human(count: float) -> str:
    """Return a number of bytes for a person, in powers of 1024."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and len(units) > 1:
        count /= 1024
        del units[0]
    unit = units[0]
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


@dataclass(frozen=True)
class Sizing:
    """What else decides on sizes: those of certain volumes (by `vg/lv`), and the limits of `auto`.

    And what is known of volumes, by their uuid: what the last runs have used, how many bytes per second are written to
    it now, how many bytes of its file system are in use; how it was written until now, and whether it rotates.
    `chunk` (bytes, 0 for `auto`) is that of all snapshots but those of certain volumes, in `chunks`.
    """

    sizes: Mapping[str, Size] = field(default_factory=dict)
    minimum: Size = AUTO
    maximum: Size = AUTO
    past: Mapping[str, Sequence[Once]] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)
    writes: Mapping[str, Writes] = field(default_factory=dict)
    rotational: frozenset[str] = frozenset()
    chunk: int = 0
    chunks: Mapping[str, int] = field(default_factory=dict)

    def pattern(self, volume: Volume) -> Pattern:
        """Return how a volume is written, as far as that is known."""
        past, writes = self.past.get(volume.uuid, ()), self.writes.get(volume.uuid, Writes())
        return Pattern(volume.size, past, writes, volume.uuid in self.rotational)


@dataclass(frozen=True)
class _Share:
    """What a snapshot should have, and the least that will do: extents.

    `at_worst` is what it may need if nothing that past runs have not shown is taken for granted.
    """

    least: int
    wanted: int
    why: str
    why_least: str = ""
    measured: bool = False
    most: int = 0
    at_worst: int = 0
    chunk: Chunk = field(default_factory=Chunk)


def allot(volumes: Sequence[Volume], size: Size, known: Sizing | None = None) -> tuple[dict[str, Allotted], list[str]]:
    """Share the free space of each group among its thick snapshots.

    Returns the space by volume uuid, and one problem for each group that has not enough.
    """
    groups: defaultdict[tuple[str, ...], list[Volume]] = defaultdict(list)
    for volume in [volume for volume in volumes if not volume.is_thin]:
        groups[share_key(volume)].append(volume)
    allotted: dict[str, Allotted] = {}
    problems = []
    for members in groups.values():
        sizes = [(known or Sizing()).sizes.get(volume.full_name, size) for volume in members]
        shares = _shared(members, _wishes(members, sizes, known or Sizing()))
        needed = sum(share.size for share in shares)
        if needed > members[0].vg_free:
            problems.append(_too_little(members, needed, " and ".join(dict.fromkeys(map(str, sizes)))))
        allotted |= {volume.uuid: share for volume, share in zip(members, shares, strict=True)}
    return allotted, problems


def share_key(volume: Volume) -> tuple[str, ...]:
    """Return what is equal for volumes whose snapshots share the same free space."""
    return volume.vg_uuid, str(volume.vg_coarse), *volume.vg_disks


def limit(volume: Volume, known: Sizing, chunk: int = LVM_CHUNK) -> int:
    """Return up to how many bytes a snapshot may grow."""
    top = most(volume, chunk)
    return min(top, _bytes(known.maximum, volume, known, top))


def most(volume: Volume, chunk: int = LVM_CHUNK) -> int:
    """Return the size at which a snapshot cannot overflow any more: every chunk copied, and their table."""
    return volume.size + volume.size // 64 + 2 * volume.extent + 4 * (chunk - LVM_CHUNK)


def _wishes(members: Sequence[Volume], sizes: Sequence[Size], known: Sizing) -> list[_Share]:
    """Return what the snapshots of a group should have, with the largest chunks for which there is room."""
    largest = AUTO_CHUNKS[-1]
    while True:
        shares = [_share(volume, own, known, largest) for volume, own in zip(members, sizes, strict=True)]
        free = [share for share, volume in zip(shares, members, strict=True) if not _fixed(volume, known)]
        largest = min(largest, max((share.chunk.size for share in free), default=LVM_CHUNK)) // 2
        auto = [share for share in shares if share.why_least]
        needed = max(sum(share.wanted for share in auto), sum(min(share.at_worst, share.most) for share in auto))
        if largest < LVM_CHUNK or needed <= _usable(members, shares)[0]:
            return shares


def _fixed(volume: Volume, known: Sizing) -> int:
    """Return the chunk that the configuration wants, in bytes; 0 if it is ours to choose."""
    return known.chunks.get(volume.full_name, known.chunk)


def _chunk(volume: Volume, size: Size, known: Sizing, largest: int) -> Chunk:
    """Return the chunk of a snapshot, of at most `largest` bytes where it is ours to choose."""
    if fixed := _fixed(volume, known):
        return Chunk(fixed, f"{fixed // 1024}KiB")
    pattern = known.pattern(volume)
    best = chunk_size.auto(pattern)

    def has_room(chunk: int) -> bool:
        """Whether the largest space that it may have is enough. What was asked for was not meant for larger chunks."""
        space = limit(volume, known, chunk) if size.basis == "auto" else _bytes(size, volume, known, 0)
        needed = min(chunk_size.at_worst(pattern, chunk), most(volume, chunk))
        fits = chunk <= chunk_size.largest_for(space) and needed <= space
        return fits and (bool(pattern.past) or size.basis == "auto")

    top = max((chunk for chunk in AUTO_CHUNKS if chunk <= largest and has_room(chunk)), default=LVM_CHUNK)
    return best if best.size <= top else chunk_size.smaller(pattern, top)


def _allotted(volume: Volume, extents: int, why: str) -> Allotted:
    return Allotted(extents, extents * volume.extent, why)


def _extents(volume: Volume, size: int) -> int:
    """Return how many whole extents hold that many bytes, at least one."""
    return max(1, -(-size // volume.extent))


def _bytes(size: Size, volume: Volume, known: Sizing, auto: int) -> int:
    whole = {"origin": volume.size, "free": volume.vg_free, "used": known.used.get(volume.uuid, volume.size)}
    if size.basis == "auto":
        return auto
    return whole[size.basis] * size.amount // 100 if size.basis in whole else size.amount


def _share(volume: Volume, size: Size, known: Sizing, largest: int) -> _Share:
    chunk = _chunk(volume, size, known, largest)
    if size.basis == "auto":
        return replace(_auto(volume, known, chunk.size), chunk=chunk)
    wanted, top = max(_bytes(size, volume, known, 0), FEW_CHUNKS * chunk.size), most(volume, chunk.size)
    if wanted > top:
        extents, why = _extents(volume, top), f"{size}, cut to the most that can ever be used"
    elif size.basis == "free":  # rounded down: several parts of what is free must fit into it
        extents, why = max(1, wanted // volume.extent), str(size)
    else:
        extents, why = _extents(volume, wanted), str(size)
    return _Share(extents, extents, why, chunk=chunk)


def _auto(volume: Volume, known: Sizing, chunk: int) -> _Share:
    ceiling, pattern = limit(volume, known, chunk), known.pattern(volume)

    def bounded(count: int) -> int:
        """Return extents within sense: neither tiny nor more than is allowed or can ever be used."""
        at_least = _bytes(known.minimum, volume, known, AUTO_LEAST)
        return _extents(volume, min(ceiling, max(at_least, count)))

    top, floor = _extents(volume, ceiling), bounded(FLOOR)
    percent, percent_least = (_percent(pattern, chunk, share) for share in (AUTO_SHARE, AUTO_FLOOR))
    least = bounded(volume.size * percent_least // 100)
    why_least = f"auto: the least that it takes, {_whole(volume, percent_least)}"
    speed = known.speeds.get(volume.uuid, 0.0)
    past, at_worst = chunk_size.as_if(pattern, chunk), _extents(volume, chunk_size.at_worst(pattern, chunk))
    same = all(run.chunk == chunk for run in pattern.past)
    need = expected(past, speed, "" if same else f" with chunks of {chunk // 1024} KiB")
    share = _Share(least, least, "", why_least, most=top, at_worst=at_worst)
    if need:
        why = f"auto: {need.why.format(human(need.used))}"
        wanted, least = bounded(need.size), min(least, bounded(need.used))
        share = replace(share, least=least, wanted=wanted, why=why, why_least=why, measured=True)
    elif speed * HOUR > volume.size * AUTO_SHARE // 100:
        why = f"auto: {_whole(volume, 2 * percent)}, for it is busy: {human(speed)}/s are written"
        share = replace(share, wanted=bounded(volume.size * 2 * percent // 100), why=why)
    else:
        share = replace(share, wanted=bounded(volume.size * percent // 100), why=f"auto: {_whole(volume, percent)}")
    if share.wanted >= floor:
        return share
    why = "all that it can ever use" if floor == top else f"{SLOWEST} s of a burst at {human(FASTEST)}/s"
    return replace(share, wanted=floor, why=f"auto: {why}", measured=False)


def _percent(pattern: Pattern, chunk: int, percent: int) -> int:
    """Return the per cent of a volume that do with these chunks what those do with LVM's own."""
    if chunk == LVM_CHUNK:
        return percent
    small, large = chunk_size.copied(pattern, LVM_CHUNK), chunk_size.copied(pattern, chunk)
    more = large / small if small and large else pattern.limit
    return min(100, int(percent * max(1.0, more)))


def _usable(members: Sequence[Volume], shares: Sequence[_Share]) -> tuple[int, int]:
    """Return how many extents the snapshots share whose size is `auto`, and how many per cent of what is free it is."""
    auto = [share for share in shares if share.why_least]
    fixed = sum(share.wanted for share in shares if not share.why_least)
    free = max(0, members[0].vg_free // members[0].extent - fixed)
    part = 100 if free * 100 >= sum(share.most for share in auto) * ENOUGH else AUTO_OF_FREE
    return free * part // 100, part


def _shared(members: Sequence[Volume], shares: Sequence[_Share]) -> list[Allotted]:
    """Give each what it wants; where `auto` wants too much, its snapshots share what is left in proportion."""
    auto = [share for share in shares if share.why_least]
    usable, part = _usable(members, shares)
    wanted, least = sum(share.wanted for share in auto), sum(share.least for share in auto)
    spare, more = max(0, usable - least), wanted - least
    why = f"auto: its share of {part}% of the free space, {human(members[0].vg_free)}"

    def given(volume: Volume, share: _Share) -> Allotted:
        if not share.why_least or wanted <= usable:
            return replace(_allotted(volume, share.wanted, share.why), measured=share.measured)
        extents = share.least + ((share.wanted - share.least) * spare // more if spare else 0)
        short = _allotted(volume, extents, why if spare else share.why_least)
        return replace(short, wanted=share.wanted * volume.extent)

    return [replace(given(volume, share), chunk=share.chunk) for volume, share in zip(members, shares, strict=True)]


def _whole(volume: Volume, percent: int) -> str:
    return f"{percent}% of {human(volume.size)}"


def _too_little(members: Sequence[Volume], needed: int, size: str) -> str:
    free, reserved = members[0].vg_free, members[0].vg_reserved
    more = f", {human(needed - free)} more" if free else ""
    why = " or with larger logical blocks" if members[0].vg_coarse else ""
    elsewhere = f" ({human(reserved)} more are on disks with `pvchange --allocatable n`{why})" if reserved else ""
    if members[0].vg_chosen:
        elsewhere = f" on {', '.join(members[0].vg_disks)} (snapshot.physical_volumes)"
    names = ", ".join(volume.name for volume in members)
    return (
        f"volume group {members[0].vg} has {human(free)} free{elsewhere}; snapshots of {names} with size {size} "
        f"need at least {human(needed)}{more}: add a disk (vgextend), shrink or remove a volume, or ask for less with "
        "--snapshot-size"
    )
