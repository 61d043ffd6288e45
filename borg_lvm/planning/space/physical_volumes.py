"""On which physical volumes of its group the space of each snapshot lies, as the configuration wants it. Pure.

Who names physical volumes has them to themselves: the space of other snapshots of a run lies elsewhere in the group, or
LVM might put it there first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from borg_lvm.machine.lvm import Volume
from borg_lvm.machine.lvm_groups import Disk, Group
from borg_lvm.records import dataclass, field

TAG = "@"


@dataclass(frozen=True)
class Places:
    """What the configuration says: names as LVM has them, or tags (`@tag`), for all volumes and for some (`vg/lv`)."""

    everywhere: tuple[str, ...] = ()
    volumes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def wanted(self, volume: Volume) -> tuple[str, ...]:
        """Return what is named for a volume."""
        return self.volumes.get(volume.full_name, self.everywhere)


def place(
    volumes: Sequence[Volume], groups: Mapping[str, Group], places: Places
) -> tuple[dict[str, Volume], list[str]]:
    """Return the volumes by their uuids, each with the disks for its snapshot's space; and why some have none."""
    placed = {volume.uuid: volume for volume in volumes}
    thick = [volume for volume in volumes if not volume.is_thin and volume.vg_uuid in groups]
    problems = list(_nowhere(thick, groups, places.everywhere)) if thick else []
    members: defaultdict[str, list[Volume]] = defaultdict(list)
    for volume in thick:
        members[volume.vg_uuid].append(volume)
    for uuid, some in members.items():
        chosen: dict[str, frozenset[Disk]] = {}
        for volume in some:
            disks, why = _chosen(volume, groups[uuid], places)
            problems += why
            if disks:
                chosen[volume.uuid] = disks
        taken = frozenset[Disk]().union(*chosen.values())
        for volume in some:
            if chosen and volume.uuid not in chosen:
                chosen[volume.uuid] = _usable(volume, groups[uuid]) - taken or _usable(volume, groups[uuid])
        problems += _shared(some, chosen)
        placed |= {volume.uuid: _with(volume, groups[uuid], chosen[volume.uuid]) for volume in some if chosen}
    return placed, problems


def _chosen(volume: Volume, group: Group, places: Places) -> tuple[frozenset[Disk], list[str]]:
    """Return the disks that are named for a volume, none if it has none in this group; and what is wrong with them."""
    own = volume.full_name in places.volumes
    named: dict[str, list[Disk]] = {name: _named(name, group) for name in places.wanted(volume)}
    problems = [_missing(volume, group, name) for name, disks in named.items() if own and not disks]
    disks = frozenset(disk for some in named.values() for disk in some)
    problems += [
        f"{volume.full_name}: nothing may be allocated from {disk.name}, where the space of its snapshot is to lie "
        f"(snapshot.physical_volumes); to allow it: pvchange --allocatable y {disk.name}"
        for disk in sorted(disks, key=lambda disk: disk.name)
        if not disk.allocatable
    ]
    usable = disks & _usable(volume, group)
    if disks and not usable and not problems:
        why = "have larger logical blocks than it" if any(disk.free for disk in disks) else "have nothing free"
        problems = [
            f"{volume.full_name}: the physical volumes on which the space of its snapshot is to lie {why}: "
            f"{_list(disks)} (snapshot.physical_volumes)"
        ]
    return usable, problems


def _named(name: str, group: Group) -> list[Disk]:
    disks = (*group.disks, *group.others)
    if name.startswith(TAG):
        return [disk for disk in disks if name.removeprefix(TAG) in disk.tags]
    return [disk for disk in disks if disk.name == name]


def _usable(volume: Volume, group: Group) -> frozenset[Disk]:
    """Return the disks on which LVM can make the space of a snapshot of this volume."""
    return frozenset(disk for disk in group.disks if not volume.vg_coarse or disk.name in volume.vg_disks)


def _nowhere(volumes: Sequence[Volume], groups: Mapping[str, Group], names: Sequence[str]) -> Iterator[str]:
    """Yield the names that are named for all volumes, and are in no group of this run."""
    concerned = {volume.vg_uuid: groups[volume.vg_uuid] for volume in volumes}
    for name in names:
        if not any(_named(name, group) for group in concerned.values()):
            where = ", ".join(group.name for group in concerned.values())
            what = f"no physical volume has the tag {name}" if name.startswith(TAG) else f"{name} is none"
            yield f"snapshot.physical_volumes: {what} in the volume groups of this run ({where}); see: pvs -o +pv_tags"


def _missing(volume: Volume, group: Group, name: str) -> str:
    what = f"none with the tag {name}" if name.startswith(TAG) else f"no {name}"
    known = _list((*group.disks, *group.others))
    return (
        f"{volume.full_name}: the space of its snapshot is to lie on certain physical volumes (snapshot.volumes), but "
        f"{group.name} has {what}; it has {known}"
    )


def _shared(volumes: Sequence[Volume], chosen: Mapping[str, frozenset[Disk]]) -> Iterator[str]:
    """Yield the volumes whose disks are partly the same: nobody could say for whom what is free there is."""
    for volume, other in combinations([volume for volume in volumes if volume.uuid in chosen], 2):
        mine, theirs = chosen[volume.uuid], chosen[other.uuid]
        if mine != theirs and mine & theirs:
            yield (
                f"the snapshots of {volume.full_name} and {other.full_name} are to share {_list(mine & theirs)} only: "
                "name the same physical volumes for both, or others for each (snapshot.physical_volumes)"
            )


def _with(volume: Volume, group: Group, disks: frozenset[Disk]) -> Volume:
    if disks == _usable(volume, group):
        return volume
    free = sum(disk.free for disk in disks)
    names = tuple(sorted(disk.name for disk in disks))
    return replace(
        volume, vg_free=free, vg_reserved=volume.vg_reserved + volume.vg_free - free, vg_disks=names, vg_chosen=True
    )


def _list(disks: Sequence[Disk] | frozenset[Disk]) -> str:
    return ", ".join(sorted(disk.name for disk in disks)) or "none"
