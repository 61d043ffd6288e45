"""Can a volume have a snapshot now? The one answer that plan, run and check give. Pure.

LVM would refuse in the middle of a run; all that makes it refuse is in what it reports of a volume, its pool and its
group. Source: lvm2, validate_snapshot_origin and thin_pool_below_threshold in lib/metadata; vg_read, vg_write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from borg_lvm.machine.lvm import Volume
from borg_lvm.machine.lvm_groups import Group
from borg_lvm.planning.snapshot_size import human

POOL_FULL = 95.0
"""From this fill (per cent, data or metadata) on, a thin pool is too full for a backup to be started."""
_METADATA_FREE = 4 << 20
_METADATA_FREE_PERCENT = 25.0
"""So much of a pool's metadata must be free, the smaller of both, else LVM adds no volume to it."""
DESCRIPTION = 4 << 10
"""Bytes by which a snapshot makes the description of its group longer: 900 at first, more when it grows in pieces."""
_SICK = {
    "failed": "has failed",
    "out_of_data": "has no room for data left",
    "metadata_read_only": "cannot write its metadata any more",
}
"""What LVM says of a pool's health, by lvs(8)."""
_VDO = (
    "is stored by VDO, of which borg-lvm takes no snapshots (nobody has tried it, and how fast changes fill VDO's pool "
    "cannot be known beforehand); leave it out, or have it read live: --live PATH, or `live` in the configuration"
)


def volume_refusal(volume: Volume, group: Group | None, pool: Volume | None) -> str:
    """Return why a volume can have no snapshot now, and what to do: a clause that follows its name; else nothing."""
    if reason := _of_volume(volume):
        return reason
    if group and (reason := group_refusal(group)):
        return f"is in the volume group {group.name}, which {reason}"
    if pool and (reason := pool_refusal(pool)):
        return f"is in the thin pool {pool.full_name}, which {reason}"
    return ""


def _of_volume(volume: Volume) -> str:
    reasons = {
        f"is frozen already, by the run {volume.run_id}, inside of which we are; leave out this borg-lvm": bool(
            volume.run_id
        ),
        "is being merged with a snapshot; wait until `lvs` shows the merge as done": volume.is_merging,
        f"is itself a snapshot (of {volume.vg}/{volume.origin}); back up the origin instead": volume.is_snapshot,
        "is being moved to another disk, so LVM changes nothing of it; wait for pvmove, or: pvmove --abort": (
            volume.is_locked
        ),
        "is a RAID with integrity, of which LVM makes no snapshot; to do without integrity: lvconvert --raidintegrity "
        f"n {volume.full_name}": "raid" in volume.layout and "integrity" in volume.modules,
        _VDO: _is_on_vdo(volume),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")


def _is_on_vdo(volume: Volume) -> bool:
    """LVM's own name of the kernel's module is kvdo, or dm-vdo. Of a thin volume the pool has it (seen with RAID)."""
    return "vdo" in volume.layout or any(module.endswith("vdo") for module in volume.modules)


def group_refusal(group: Group) -> str:
    """Return why LVM changes no volume of a group, and what to do: a clause that follows its name; else nothing."""
    name = group.name
    reasons = {
        f"misses the physical volume {_first(group.missing)}, so LVM changes nothing in it; bring the disk back (if "
        f"`vgs` still shows `p` then: vgextend --restoremissing {name} DEVICE), or, if it is gone for good: vgreduce "
        f"--removemissing {name}": group.missing,
        f"has a disk that LVM sees a second time, as {_first(group.duplicates)}, so LVM changes nothing in it; take "
        "the clone away, or hide it from LVM (global_filter in lvm.conf, or lvmdevices --deldev)": group.duplicates,
        f"has the name of another volume group (its id: {group.namesake}), so LVM does nothing by that name; take the "
        f"disk of the other away, or give it a new name: vgrename {group.namesake} NAME": group.namesake,
        f"is exported, so LVM does nothing with it; if it belongs here: vgimport {name}": group.exported,
        f"belongs to the host {group.system_id!r}, by its system ID; if that does not use it any more, make it this "
        "host's (lvmsystemid(7))": group.foreign,
        "is read-only by its metadata, so LVM changes nothing in it; `vgs` shows `r`": not group.writable,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")


def _first(names: Sequence[str]) -> str:
    return "".join(names[:1]) + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def pool_refusal(pool: Volume) -> str:
    """Return why a thin pool can take no snapshot now, and what to do: a clause that follows its name; else nothing."""
    if _is_on_vdo(pool):
        return _VDO
    if pool.health in _SICK:
        return f"{_SICK[pool.health]}; repair or extend it first (lvmthin(7))"
    if pool.needs_check:
        return f"needs a check of its metadata; take it out of use, then: lvconvert --repair {pool.full_name}"
    for what, fill, limit, why in _fills(pool):
        if fill >= limit:
            return f"has used {fill:.1f} % of its {what}; extend the pool first, {why}"
    return ""


def pool_limits(pool: Volume) -> dict[str, float]:
    """Return from which fill (per cent) of its data and of its metadata on a thin pool takes no snapshots."""
    return {what: limit for what, _, limit, _ in _fills(pool)}


def _fills(pool: Volume) -> Iterator[tuple[str, float, float, str]]:
    """Yield what is used, how much (per cent), from which fill on nothing is added to the pool, and who says so."""
    full = (POOL_FULL, "a full pool makes its volumes read-only")
    config = (pool.ceiling, f"LVM adds nothing to one above thin_pool_autoextend_threshold ({pool.ceiling:.0f} %)")
    free = min(_METADATA_FREE_PERCENT, 100 * _METADATA_FREE / pool.metadata_size) if pool.metadata_size else 0.0
    metadata = (100 - free, f"LVM adds nothing to one with less than {free:.0f} % of its metadata free")
    if pool.data_percent is not None:
        yield "data", pool.data_percent, *min(full, config)
    if pool.metadata_percent is not None:
        yield "metadata", pool.metadata_percent, *min(full, config, metadata)


def unlisted(uuid: str, groups: Mapping[str, Group]) -> str:
    """Return why LVM does not list the volume of this device-mapper uuid; nothing if it is none of LVM's."""
    if not uuid.startswith("LVM-"):
        return ""
    group = next((group for known, group in groups.items() if known.replace("-", "") == uuid[4:36]), None)
    if group and (reason := group_refusal(group)):
        return f"in the volume group {group.name}, which {reason}"
    if group and group.lock_type:
        return f"in the shared volume group {group.name}; start its locks first: vgchange --lockstart {group.name}"
    return "that LVM does not list; its disks are hidden by a filter in lvm.conf or by the devices file (lvmdevices(8))"


def crowded(volumes: Sequence[Volume], groups: Mapping[str, Group]) -> Iterator[str]:
    """Yield each group that may not have as many more volumes as snapshots are wanted, or cannot describe them.

    LVM writes no description that is too long (`_vg_write_raw` in its format-text.c).
    """
    wanted: defaultdict[str, int] = defaultdict(int)
    for volume in volumes:
        wanted[volume.vg_uuid] += 1
    for uuid, count in wanted.items():
        group = groups.get(uuid)
        if not group:
            continue
        if group.most and group.volumes + count > group.most:
            yield (
                f"volume group {group.name} may have {group.most} volumes, has {group.volumes}, and needs {count} more "
                f"for snapshots: vgchange --logicalvolume {group.volumes + count} {group.name} (0: any number)"
            )
        if group.metadata_free is not None and group.metadata_free < count * DESCRIPTION:
            yield (
                f"volume group {group.name} has {human(group.metadata_free)} left in its metadata area (vgs -o "
                f"vg_mda_free), and needs {human(count * DESCRIPTION)} for {_snapshots(count)}; remove volumes or tags"
                " that nobody needs, or add a disk with a larger area (pvcreate --metadatasize 16m, vgextend), and have"
                " LVM use no area of the others (pvchange --metadataignore y)"
            )


def _snapshots(count: int) -> str:
    return "its snapshot" if count == 1 else f"{count} snapshots"
