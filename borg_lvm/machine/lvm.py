"""LVM's volumes, from one `lvs` report, and their groups; source of the fields: lvs(8), lvmreport(7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from borg_lvm.errors import BorgLvmError, SnapshotError
from borg_lvm.linux import safe_open, subprocesses
from borg_lvm.machine import block_devices, lvm_groups, lvm_json, lvm_settings
from borg_lvm.machine.lvm_groups import Disk, Group
from borg_lvm.machine.lvm_json import number
from borg_lvm.records import dataclass, field

FIELDS = (
    "vg_name,vg_uuid,vg_free,vg_extent_size,lv_name,lv_uuid,lv_size,lv_attr,lv_layout,lv_role,lv_active,lv_suspended,"
    "lv_tags,lv_time,pool_lv,origin,data_percent,metadata_percent,lv_metadata_size,lv_kernel_major,lv_kernel_minor,"
    "lv_health_status,lv_check_needed,lv_modules,lv_profile,vg_allocation_policy"
)
TAG = "borg_lvm"
RUN_TAG = "borg_lvm.run="
ATTRIBUTES = 10
KEEP_TAG = "borg_lvm.keep"
SCRATCH_TAG = "borg_lvm.scratch"
"""What the volume of a drill's carries besides: no snapshot, and none of the user's."""
SECTOR = 512
"""The least that a logical block has, in bytes."""
LEAST_CEILING = 50.0
"""LVM takes a lower threshold for this one. Source: lvm.conf(5), thin_pool_autoextend_threshold."""


@dataclass(frozen=True)
class Volume:
    """A logical volume. Sizes are bytes; percentages 0 to 100, None where LVM reports none.

    `vg_free` is what its group has free, `vg_reserved` what it has free besides, where LVM may allocate nothing,
    `vg_policy` how LVM allocates in it, `vg_disks` from which disks alone it may for a snapshot (none: from all),
    `vg_coarse` whether others have larger logical blocks, `vg_chosen` whether the configuration has chosen
    `vg_disks`. `modules` are the kernel's that it needs. `ceiling`: a thin pool that is fuller (per cent) gets no more
    volumes.
    """

    vg: str
    vg_uuid: str
    vg_free: int
    extent: int
    name: str
    uuid: str
    size: int
    attr: str
    layout: frozenset[str]
    role: frozenset[str]
    active: bool
    suspended: bool
    tags: tuple[str, ...]
    pool: str
    origin: str
    data_percent: float | None
    metadata_percent: float | None
    minor: int
    metadata_size: int = 0
    health: str = ""
    needs_check: bool = False
    modules: frozenset[str] = frozenset()
    profile: str = ""
    ceiling: float = 100.0
    vg_reserved: int = 0
    vg_policy: str = "normal"
    vg_disks: tuple[str, ...] = ()
    vg_coarse: bool = False
    vg_chosen: bool = False

    @property
    def full_name(self) -> str:
        """`vg/lv`, as LVM's commands take it."""
        return f"{self.vg}/{self.name}"

    @property
    def dm_uuid(self) -> str:
        """The device-mapper uuid of the volume's visible device (libdm: `LVM-` and both ids without dashes)."""
        return "LVM-" + f"{self.vg_uuid}{self.uuid}".replace("-", "")

    @property
    def is_thin(self) -> bool:
        """Whether the volume lives in a thin pool. Its attributes do not show it once it has a thick snapshot (`o`)."""
        return "thin" in self.layout and bool(self.pool)

    @property
    def is_snapshot(self) -> bool:
        """Whether this is a thick snapshot (a thin one is a volume in its own right)."""
        return self.attr[0] in "sS"

    @property
    def is_merging(self) -> bool:
        """Whether a snapshot is being merged back into this volume, or this one into another."""
        return self.attr[0] in "OS"

    @property
    def is_locked(self) -> bool:
        """Whether LVM lets nothing change it, as while `pvmove` moves its extents."""
        return self.attr[2].isupper()

    @property
    def is_thin_pool(self) -> bool:
        """Whether thin volumes live in this one."""
        return {"thin", "pool"} <= self.layout

    @property
    def run_id(self) -> str:
        """The run that made this volume, empty if none of ours did."""
        return next((tag.removeprefix(RUN_TAG) for tag in self.tags if tag.startswith(RUN_TAG)), "")


@dataclass(frozen=True)
class Inventory:
    """The volumes that LVM lists, and the groups that it sees (by id), also those of which it lists no volume.

    A volume's `vg_free` is here what LVM may take for a new one; the rest is its `vg_reserved`.
    """

    volumes: tuple[Volume, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)


def prefix(run_id: str) -> str:
    """Return what the names of a run's snapshots begin with."""
    return f"{TAG}-{run_id}-"


def doubled(name: str) -> str:
    """Return a name, or a part of one, as it stands in device-mapper's: libdm doubles its dashes."""
    return name.replace("-", "--")


def dm_name(vg: str, lv: str) -> str:
    """Return the device-mapper name of a volume."""
    return f"{doubled(vg)}-{doubled(lv)}"


def report(timeout: float, select: Sequence[str] = (), *, hidden: bool = False) -> list[Volume]:
    """Ask LVM for its volumes, or for those named in `select` (`vg/lv` or `vg`). One process.

    `hidden`: also those that are parts of others, as a snapshot is that is to be merged into its origin.
    Raises: ProgramError; SnapshotError when LVM's answer cannot be read.
    """
    return parse(subprocesses.run(report_of(select, hidden=hidden), timeout=timeout))


def report_of(select: Sequence[str], *, hidden: bool = False) -> list[str]:
    """Return the command line of `report`, for `parse`."""
    argv = ["lvs", *(["--all"] if hidden else []), *lvm_settings.JSON, "--units", "b"]
    return [*argv, "--config", lvm_settings.FORM, "--options", FIELDS, *select]


def inventory(timeout: float) -> Inventory:
    """Ask LVM for its volumes and groups. Two processes at a time, few more for full pools or other hosts' groups.

    Raises: as `report`.
    """
    with subprocesses.beside(report_of(()), timeout=timeout) as listed:
        try:
            groups = lvm_groups.report(timeout)
        except BorgLvmError:
            listed()  # if that has failed, too, it says more
            raise
        return joined(parse(listed()), groups, timeout)


def joined(volumes: Sequence[Volume], groups: Mapping[str, Group], timeout: float) -> Inventory:
    """Return volumes with what their groups say of them. A process for each profile of full pools.

    Raises: ProgramError.
    """
    profiles = {volume.profile for volume in volumes if _is_filling(volume)}
    ceilings = {profile: _ceiling(profile, timeout) for profile in profiles}
    return Inventory(tuple(completed(volume, groups.get(volume.vg_uuid), ceilings) for volume in volumes), groups)


def completed(volume: Volume, group: Group | None, ceilings: Mapping[str, float]) -> Volume:
    """Return a volume with what its group, and LVM's settings, say of it."""
    ceiling = ceilings[volume.profile] if _is_filling(volume) else volume.ceiling
    disks = group.disks if group else ()
    coarse = _coarse(volume, disks)
    reserved = sum(disk.free for disk in coarse) + (group.reserved if group else 0)
    return replace(
        volume,
        ceiling=ceiling,
        vg_free=max(0, volume.vg_free - reserved),
        vg_reserved=reserved,
        vg_disks=tuple(disk.name for disk in disks if disk not in coarse) if coarse else (),
        vg_coarse=bool(coarse),
    )


def _coarse(volume: Volume, disks: Sequence[Disk]) -> tuple[Disk, ...]:
    """Return the disks whose logical blocks are larger than a volume's.

    A snapshot has the larger blocks of its origin and its space, and no file system with smaller ones can be mounted.
    """
    if volume.is_thin or all(disk.block <= SECTOR for disk in disks):
        return ()
    try:
        own = block_devices.logical_block(safe_open.own_device_number(f"/dev/mapper/{dm_name(volume.vg, volume.name)}"))
    except (OSError, ValueError):  # it is not active
        return ()
    return tuple(disk for disk in disks if disk.block > own)


def _is_filling(volume: Volume) -> bool:
    """Whether this is a thin pool so full that LVM's threshold matters."""
    fill = max(volume.data_percent or 0.0, volume.metadata_percent or 0.0)
    return volume.is_thin_pool and fill > LEAST_CEILING


def _ceiling(profile: str, timeout: float) -> float:
    """Return from which fill on a thin pool gets no more volumes, by LVM's settings.

    A profile that is not on this machine is none for LVM either.
    """
    try:
        thresholds = lvm_settings.ask([lvm_settings.THRESHOLD], timeout, profile).values()
    except subprocesses.ProgramError:
        if not profile:
            raise
        return _ceiling("", timeout)
    return max(LEAST_CEILING, *(float(text) for text in thresholds if text.isdigit()))


def parse(text: str) -> list[Volume]:
    """Parse the JSON of `lvs`; a volume of several segments is listed once. Raises: SnapshotError."""
    try:
        return of_rows(rows(text))
    except (ValueError, LookupError, TypeError) as error:
        raise unreadable(text) from error


def of_rows(rows: Iterable[Mapping[str, str]]) -> list[Volume]:
    """Return the volumes of a report's rows. Raises: ValueError, LookupError for what LVM never writes."""
    return list({row["lv_uuid"]: _volume(row) for row in rows}.values())


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a report of `lvs` in JSON. Raises: SnapshotError."""
    return lvm_json.rows(text, "lv")


def unreadable(text: str) -> SnapshotError:
    """Return the error for a report of `lvs` that LVM does not write."""
    return lvm_json.unreadable(text, "lv")


def _volume(row: Mapping[str, str]) -> Volume:
    return Volume(
        vg=row["vg_name"],
        vg_uuid=row["vg_uuid"],
        vg_free=number(row["vg_free"]),
        extent=number(row["vg_extent_size"], least=1),
        name=row["lv_name"].strip("[]"),
        uuid=row["lv_uuid"],
        size=number(row["lv_size"]),
        attr=_attributes(row["lv_attr"]),
        layout=frozenset(row["lv_layout"].split(",")),
        role=frozenset(row["lv_role"].split(",")),
        active=row["lv_active"] == "active",
        suspended=row["lv_suspended"] in ("suspended", "1"),  # 1: report/binary_values_as_numeric in lvm.conf
        tags=tuple(tag for tag in row["lv_tags"].split(",") if tag),
        pool=row["pool_lv"].strip("[]"),
        origin=row["origin"].strip("[]"),
        data_percent=_percent(row["data_percent"]),
        metadata_percent=_percent(row["metadata_percent"]),
        minor=number(row["lv_kernel_minor"], least=-1),
        metadata_size=number(row["lv_metadata_size"] or "0"),
        health=row["lv_health_status"],
        needs_check=row["lv_check_needed"] in ("check needed", "1"),
        modules=frozenset(row["lv_modules"].split(",")),
        profile=row["lv_profile"],
        vg_policy=row["vg_allocation_policy"],
    )


def _attributes(text: str) -> str:
    """Return the letters of lv_attr: ten of them since LVM 2.02.99. Raises: ValueError."""
    if len(text) < ATTRIBUTES:
        raise ValueError("too few attributes")
    return text


def _percent(text: str) -> float | None:
    """Return how full a volume is. LVM writes more than 100 of a snapshot that was made smaller than its content."""
    percent = float(text) if text else None
    if percent is not None and not 0 <= percent < math.inf:
        raise ValueError("not a percentage")
    return percent if percent is None else min(percent, 100.0)
