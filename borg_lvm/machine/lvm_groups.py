"""LVM's volume groups, from one `pvs` report: what decides whether LVM changes a group, and where it has free space.

Source of the fields: pvs(8), lvmreport(7).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from borg_lvm.linux import safe_open, subprocesses
from borg_lvm.machine import block_devices, lvm_json, lvm_settings
from borg_lvm.machine.lvm_json import number
from borg_lvm.machine.lvm_settings import CLONES, FORM, JSON
from borg_lvm.records import dataclass

FIELDS = (
    "pv_name,pv_uuid,pv_free,pv_allocatable,pv_tags,pv_missing,pv_duplicate,vg_name,vg_uuid,vg_permissions,vg_exported,"
    "vg_systemid,vg_lock_type,max_lv,lv_count,vg_mda_free"
)
ALL = ("pvs", "--all", "--foreign", "--shared")
"""Also disks that are no physical volumes, which may have been one of a group, and groups of other hosts."""


@dataclass(frozen=True)
class Disk:
    """A physical volume: its free bytes, its logical block size (0 if not known), its tags.

    `allocatable`: LVM may allocate from it.
    """

    name: str
    free: int
    block: int = 0
    tags: tuple[str, ...] = ()
    allocatable: bool = True


@dataclass(frozen=True)
class Group:
    """A volume group. `missing` are the ids of physical volumes that cannot be found.

    `duplicates` are devices that show a physical volume once more, `reserved` the free bytes on physical volumes from
    which nothing may be allocated (`pvchange --allocatable n`). `most` is how many volumes it may have, 0 for any.
    `system_id` is that of the host that may use it, `foreign` whether that is another one; `lock_type` is that of a
    group which hosts share. `metadata_free` are the bytes that its description may become longer by, None if LVM does
    not say. `namesake` is the id of another group of the same name, which this host may use as well. `disks` are those
    on which there is free space that LVM may allocate, `others` those on which there is none.
    """

    name: str
    missing: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    reserved: int = 0
    writable: bool = True
    exported: bool = False
    system_id: str = ""
    foreign: bool = False
    lock_type: str = ""
    most: int = 0
    volumes: int = 0
    metadata_free: int | None = None
    namesake: str = ""
    disks: tuple[Disk, ...] = ()
    others: tuple[Disk, ...] = ()


def report(timeout: float) -> dict[str, Group]:
    """Ask LVM for its groups, by their ids; also for those of which it lists no volume.

    One process, two more for each system ID, one more where a disk is seen twice, which lvm.conf may allow.
    Raises: ProgramError; SnapshotError when LVM's answer cannot be read.
    """
    argv = [*ALL, *JSON, "--units", "b", "--config", FORM, "--options", FIELDS]
    return completed(parse(subprocesses.run(argv, timeout=timeout)), timeout)


def completed(seen: Mapping[str, Group], timeout: float) -> dict[str, Group]:
    """Return groups with what their disks, and LVM's settings, say of them; processes and errors: see `report`."""
    groups = {uuid: _with_blocks(group) for uuid, group in seen.items()}
    ids = {group.system_id for group in groups.values()} - {""}
    foreign = {identity for identity in ids if not lvm_settings.is_ours(identity, timeout)}
    if any(group.duplicates for group in groups.values()) and "1" in lvm_settings.ask([CLONES], timeout).values():
        groups = {uuid: replace(group, duplicates=()) for uuid, group in groups.items()}
    return with_namesakes({uuid: replace(group, foreign=group.system_id in foreign) for uuid, group in groups.items()})


def with_namesakes(groups: Mapping[str, Group]) -> dict[str, Group]:
    """Return the groups, each with another one of its name; LVM takes this host's before another host's. Pure."""
    ours: defaultdict[str, list[str]] = defaultdict(list)
    for uuid, group in groups.items():
        if not group.foreign:
            ours[group.name].append(uuid)
    return {
        uuid: replace(group, namesake=next((other for other in ours[group.name] if other != uuid), ""))
        for uuid, group in groups.items()
    }


def parse(text: str) -> dict[str, Group]:
    """Parse the JSON of `pvs`. Raises: SnapshotError."""
    try:
        return of_rows(lvm_json.rows(text, "pv"))
    except (ValueError, LookupError) as error:
        raise lvm_json.unreadable(text, "pv") from error


def of_rows(rows: Iterable[Mapping[str, str]]) -> dict[str, Group]:
    """Return the groups of a report's rows, by their ids. Raises: ValueError, LookupError for what LVM never writes."""
    members: defaultdict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        if row["vg_uuid"]:
            members[row["vg_uuid"]].append(row)
    return {uuid: _group(some) for uuid, some in members.items()}


def list_disks() -> list[str]:
    """Return the command line that `only` understands the output of."""
    return [*ALL, *JSON, "--config", FORM, "--options", "pv_name,vg_name,vg_uuid"]


def free_on(disks: Sequence[str]) -> list[str]:
    """Return the command line that `parse_free` understands the output of."""
    return ["pvs", *JSON, "--units", "b", "--config", FORM, "--options", "pv_name,pv_free", *disks]


def parse_free(text: str) -> int:
    """Return how many bytes are free on physical volumes. Raises: SnapshotError."""
    try:
        return sum(number(row["pv_free"]) for row in lvm_json.rows(text, "pv"))
    except (ValueError, LookupError) as error:
        raise lvm_json.unreadable(text, "pv") from error


def only(text: str, vg_uuid: str) -> list[str]:
    """Return the option by which LVM sees one group's disks alone, if another group has its name; else nothing.

    LVM does nothing by a name that two groups have. Source: lvmdevices(8). Raises: SnapshotError.
    """
    try:
        rows = lvm_json.rows(text, "pv")
        names = {row["vg_name"] for row in rows if row["vg_uuid"] == vg_uuid}
        doubled = any(row["vg_name"] in names and row["vg_uuid"] != vg_uuid for row in rows)
        disks = [row["pv_name"] for row in rows if row["vg_uuid"] == vg_uuid]
    except LookupError as error:
        raise lvm_json.unreadable(text, "pv") from error
    return ["--devices", ",".join(disks)] if doubled else []


def _with_blocks(group: Group) -> Group:
    """Return a group with the block sizes of its disks."""
    return replace(group, disks=tuple(replace(disk, block=_block(disk.name)) for disk in group.disks))


def _block(name: str) -> int:
    try:
        return block_devices.logical_block(safe_open.own_device_number(name))
    except (OSError, ValueError):
        return 0


def _group(rows: Sequence[Mapping[str, str]]) -> Group:
    first = rows[0]
    there = [row for row in rows if not (row["pv_duplicate"] or row["pv_missing"])]
    disks = [_disk(row) for row in there]
    closed = [row for row in rows if not (row["pv_allocatable"] or row["pv_duplicate"])]
    return Group(
        name=first["vg_name"],
        missing=tuple(row["pv_uuid"] for row in rows if row["pv_missing"]),
        duplicates=tuple(row["pv_name"] for row in rows if row["pv_duplicate"]),
        reserved=sum(number(row["pv_free"] or "0") for row in closed),
        writable=first["vg_permissions"] != "read-only",
        exported=bool(first["vg_exported"]),
        system_id=first["vg_systemid"],
        lock_type=first["vg_lock_type"] if first["vg_lock_type"] != "none" else "",
        most=number(first["max_lv"] or "0"),
        volumes=number(first["lv_count"] or "0"),
        metadata_free=number(first["vg_mda_free"]) if first["vg_mda_free"] else None,
        disks=tuple(disk for disk in disks if disk.free and disk.allocatable),
        others=tuple(disk for disk in disks if not (disk.free and disk.allocatable)),
    )


def _disk(row: Mapping[str, str]) -> Disk:
    tags = tuple(tag for tag in row["pv_tags"].split(",") if tag)
    return Disk(row["pv_name"], number(row["pv_free"] or "0"), 0, tags, bool(row["pv_allocatable"]))
