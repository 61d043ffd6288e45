"""What is to be said of a machine's volume groups and thin pools, in the words in which a plan refuses them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from borg_lvm.check.finding import Finding, Level
from borg_lvm.machine.lvm import Volume
from borg_lvm.machine.lvm_groups import Group
from borg_lvm.planning.snapshot_size import human
from borg_lvm.planning.snapshotable import group_refusal, pool_limits, pool_refusal

POOL_FILLING = 80.0
"""From this fill (per cent) on a thin pool is reported."""


def judge(volumes: Sequence[Volume], groups: Mapping[str, Group], ours: Collection[str] | None) -> Iterator[Finding]:
    """Yield what there is to say; `ours` are the names of the groups that are to be backed up, if that is known."""
    members: defaultdict[tuple[str, str], list[Volume]] = defaultdict(list)  # by name, and there may be two of one
    for volume in volumes:
        members[volume.vg, volume.vg_uuid].append(volume)
    if not members and ours != set():  # a run of subvolumes alone needs none
        yield Finding("error", "LVM", "there is no logical volume that we can see", "see: lvs --all; vgscan")
    for (name, uuid), some in sorted(members.items()):
        level: Level = "warning" if ours is None or name in ours else "note"
        yield _group(some, groups.get(uuid), level)
        yield from _pools(some)


def _group(members: Sequence[Volume], group: Group | None, level: Level) -> Finding:
    first = members[0]
    about = f"group {first.vg}"
    if group and (refusal := group_refusal(group)):
        why, _, remedy = refusal.partition("; ")
        return Finding(level, about, f"it {why}", remedy)
    thick = [
        volume for volume in members if not volume.is_thin and not volume.is_snapshot and "pool" not in volume.layout
    ]
    why = " for it, or where logical blocks are larger" if first.vg_coarse else ""
    reserved = f", and {human(first.vg_reserved)} where nothing may be allocated{why}" if first.vg_reserved else ""
    if first.vg_free >= first.extent or not thick:
        return Finding("ok", about, f"{human(first.vg_free)} free for snapshots{reserved}")
    remedy = f"vgextend {first.vg} DEVICE, or shrink or remove a volume of it"
    if reserved:
        remedy = f"pvchange --allocatable y DEVICE, or {remedy}"
    message = f"it has no free space{reserved}: of its thick volumes no snapshot can be made"
    return Finding(level, about, message, remedy)


def _pools(members: Sequence[Volume]) -> Iterator[Finding]:
    for pool in members:
        if not pool.is_thin_pool:
            continue
        if refusal := pool_refusal(pool):
            why, _, remedy = refusal.partition("; ")
            yield Finding("warning", pool.full_name, f"runs are refused: it {why}", remedy)
            continue
        limits = pool_limits(pool)
        for what, fill in (("data", pool.data_percent), ("metadata", pool.metadata_percent)):
            if fill is not None and fill >= min(POOL_FILLING, limits[what] - 5):
                option = "--poolmetadatasize" if what == "metadata" else "--size"
                usage = f"the thin pool has used {fill:.1f} % of its {what}"
                message = f"{usage}; from {limits[what]:.0f} % on a run is refused"
                yield Finding("warning", pool.full_name, message, f"lvextend {option} +SIZE {pool.full_name}")
