"""The plan of a run: everything decided, nothing done. Pure; shown by `borg-lvm plan`, carried out by `run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from borg_lvm.errors import SourceError
from borg_lvm.machine import lvm
from borg_lvm.machine.block_devices import persistent_minors
from borg_lvm.machine.btrfs_subvolumes import DIRECTORY, Subvolume
from borg_lvm.machine.lvm import RUN_TAG, TAG, Volume, prefix
from borg_lvm.machine.mounts import BTRFS, RAW, ZFS
from borg_lvm.planning import consent, file_systems
from borg_lvm.planning.choice import Apart, Choices, Chosen, choose, shared_space
from borg_lvm.planning.snapshot_size import Allotted, Sizing, allot, limit
from borg_lvm.planning.space.physical_volumes import Places, place
from borg_lvm.records import dataclass, field

if TYPE_CHECKING:
    from borg_lvm.config.proof_settings import PlannedProof
    from borg_lvm.config.size import Size
    from borg_lvm.linux.safe_open import Identity
    from borg_lvm.planning.application_data import PlannedApplication
    from borg_lvm.planning.space.chunk_size import Chunk
    from borg_lvm.planning.view_layout import LiveBelow, Resolved
    from borg_lvm.planning.volumes import Crypt, Volumes


@dataclass(frozen=True)
class Snapshot:
    """A snapshot to be made of one volume, and how its file system is mounted.

    `extents` and `chunk` (bytes, the pieces in which it is filled) are 0 for a thin snapshot, which needs no space of
    its own; it may grow up to `limit` bytes. `measured`: it has what past runs have needed. `of_free`: its size, where
    that was per cent of the group's free space. `key_file` opens the LUKS container in it when the kernel does not give
    the key of the running mapping. `fstype` is `raw`, and nothing mounted, where the volume itself is the source.
    `without_journal`: it is mounted without its journal, on another device. `wanted`: the bytes that `auto` would give
    it if the group had them, else 0.
    """

    origin: Volume
    name: str
    extents: int
    size: int
    limit: int
    measured: bool
    why_size: str
    minor: int | None
    fstype: str
    options: str
    flags: tuple[str, ...]
    mounted_at: str
    crypt: Crypt | None
    key_file: str
    without_journal: bool = False
    chunk: int = 0
    chunk_choice: Chunk | None = None
    of_free: int = 0
    wanted: int = 0

    @property
    def subvolume(self) -> Subvolume | None:
        """The subvolume of a btrfs that it is a snapshot of, if it is one of such."""
        return self.origin if isinstance(self.origin, Subvolume) else None

    @property
    def apart(self) -> Apart | None:
        """What it is a snapshot of, if that is no volume."""
        return self.origin if isinstance(self.origin, Apart) else None

    @property
    def hold(self) -> Literal["freeze", "suspend", "none"]:
        """How the volume is held for the instant: its device is suspended, which freezes the file system on it.

        One that device-mapper does not see is frozen before: one above LUKS, and a btrfs. A subvolume cannot be held:
        the kernel makes no snapshot in a btrfs that is frozen. ZFS has no freeze.
        """
        if self.apart:
            return "none"
        return "freeze" if self.crypt or self.fstype == BTRFS else "suspend"

    @property
    def may_be_frozen(self) -> bool:
        """Whether its file system is frozen: for the instant, or before it, to see that nobody else has done so."""
        return self.hold != "suspend" and self.fstype != ZFS

    @property
    def full_name(self) -> str:
        """`vg/lv` of the snapshot; of a subvolume where it lies, as findmnt(8) has it; of a dataset as zfs(8) does."""
        return self.apart.snapshot(self.name) if self.apart else f"{self.origin.vg}/{self.name}"

    @property
    def raw(self) -> bool:
        """Whether the volume itself is the source, and not a file system on it."""
        return self.fstype == RAW

    @property
    def origin_dm_name(self) -> str:
        """The device-mapper name of the origin."""
        return lvm.dm_name(self.origin.vg, self.origin.name)

    @property
    def origin_device(self) -> str:
        """The origin's own device node."""
        return f"/dev/mapper/{self.origin_dm_name}"

    @property
    def kind(self) -> str:
        """`thick`, `thin`, `subvolume` or `dataset`."""
        return self.apart.kind if self.apart else "thick" if self.extents else "thin"

    @property
    def crypt_name(self) -> str:
        """The device-mapper name of the opened snapshot of a LUKS volume."""
        return f"{self.name}-crypt"

    @property
    def dm_name(self) -> str:
        """The device-mapper name of the snapshot."""
        return lvm.dm_name(self.origin.vg, self.name)

    @property
    def volume_device(self) -> str:
        """The snapshot's own device node."""
        return f"/dev/mapper/{self.dm_name}"

    @property
    def device(self) -> str:
        """The device node that holds the file system."""
        return f"/dev/mapper/{self.crypt_name}" if self.crypt else self.volume_device


@dataclass(frozen=True)
class ViewMount:
    """One frozen path of the view: `inside` of snapshot number `snapshot`, or its `device`, is mounted over `target`.

    `because` is why, and for a device the name that it was given by.
    """

    target: str
    snapshot: int
    inside: str
    because: str
    device: bool = False


@dataclass(frozen=True)
class Plan:
    """All that a run will do.

    The snapshots are in the order in which their volumes are held. `seen` is what the survey saw at each path that is
    opened later; `ways` says of each source, as it was given, what of its name is resolved, and where that led. Sources
    that did not exist are `absent`. `proof` is what is read back when the command has ended, if anything is.
    """

    run_id: str
    snapshots: tuple[Snapshot, ...]
    view_mounts: tuple[ViewMount, ...]
    live_paths: tuple[LiveBelow, ...]
    live_sources: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    consistency: str
    notes: tuple[str, ...] = ()
    lifetime: str = ""
    """Until when its snapshots exist, and why."""
    applications: tuple[PlannedApplication, ...] = ()
    seen: Mapping[str, Identity] = field(default_factory=dict)
    ways: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    proof: PlannedProof | None = None

    @property
    def late(self) -> frozenset[str]:
        """The volumes (`vg/lv`) that are snapshotted when all applications go on again."""
        return frozenset(kept.volume for app in self.applications for kept in app.kept if kept.after and kept.volume)

    @property
    def pivots(self) -> bool:
        """Whether the command gets a frozen root, because `/` itself is a source."""
        return any(view_mount.target == "/" for view_mount in self.view_mounts)

    @property
    def tags(self) -> tuple[str, str]:
        """The LVM tags of every snapshot of this run."""
        return TAG, f"{RUN_TAG}{self.run_id}"


@dataclass(frozen=True)
class PlanSettings:
    """What configuration and command line ask of the plan.

    `key_files` says for each encrypted volume (`vg/lv`) what opens its snapshot: a path, or the empty text when the
    kernel gives the key; a volume without an entry cannot be opened. `logs` are volumes (`vg/lv`) that are held last.
    `external_journals`: devices (`major:minor`) of file systems whose journal is elsewhere; `places`: of snapshots.
    """

    run_id: str
    size: Size
    known: Sizing = field(default_factory=Sizing)
    persistent_minor: bool = True
    consistency: str = "instant"
    key_files: Mapping[str, str] = field(default_factory=dict)
    logs: frozenset[str] = frozenset()
    external_journals: frozenset[str] = frozenset()
    places: Places = field(default_factory=Places)


def make(
    settings: PlanSettings, resolved: Resolved, sources: Sequence[str], volumes: Volumes, taken_minors: frozenset[int]
) -> Plan:
    """Decide everything.

    Raises: SourceError with every reason why a source cannot be frozen, all of them at once; or when there is nothing
    to freeze at all, for then the command would read everything live under our name.
    """
    choices = choose(resolved, volumes, settings.key_files)
    problems = [*choices.problems]
    held = volumes.ordered([choice.candidate for choice in choices.chosen.values()], settings.logs)
    members = [candidate.volume for candidate in held if not candidate.apart]
    apart = [candidate.volume for candidate in held if isinstance(candidate.volume, Apart)]
    if settings.consistency == "instant" and len({volume.together for volume in apart}) > 1:
        problems.append(file_systems.two_apart(apart))
    placed, misplaced = place(members, volumes.inventory.groups, settings.places)
    space, too_little = allot(tuple(placed.values()), settings.size, settings.known)
    problems += [*misplaced, *volumes.written_while_held(held), *too_little, *volumes.crowded(members)]
    if problems:
        raise SourceError("cannot freeze every source path; nothing was done", details=tuple(problems))
    if not held:
        raise consent.nothing_to_freeze(resolved)
    minors = persistent_minors((volume.uuid for volume in members), taken_minors) if settings.persistent_minor else {}
    by_volume = {choice.candidate.volume.uuid: choice.placed(placed) for choice in choices.chosen.values()}
    order = [candidate.volume.uuid for candidate in held]
    snapshots = tuple(
        _snapshot(number, by_volume[uuid], settings, space.get(uuid), minors.get(uuid))
        for number, uuid in enumerate(order)
    )
    return Plan(
        run_id=settings.run_id,
        snapshots=snapshots,
        view_mounts=tuple(_view_mounts(resolved, choices, order)),
        live_paths=resolved.live_paths,
        live_sources=resolved.live_sources,
        sources=tuple(sources),
        consistency=settings.consistency if len(snapshots) > 1 else "instant",
        notes=(*resolved.notes, *_size_of_nothing(snapshots, settings.size)),
        absent=resolved.absent,
    )


def _view_mounts(resolved: Resolved, choices: Choices, order: Sequence[str]) -> Iterator[ViewMount]:
    """Yield what is mounted over each path; `order` are the uuids of the volumes."""
    for path in resolved.frozen:
        volume = choices.of(path).volume
        inside = volume.inside(path.inside) if isinstance(volume, Apart) else path.inside
        raw = path.mount.fstype == RAW
        yield ViewMount(path.target, order.index(volume.uuid), inside, path.because, device=raw)


def _snapshot(number: int, chosen: Chosen, wanted: PlanSettings, space: Allotted | None, minor: int | None) -> Snapshot:
    candidate, mount = chosen.candidate, chosen.mount
    crypt, lone = candidate.crypt, mount.device in wanted.external_journals
    name = f"{prefix(wanted.run_id)}{number}"
    size = wanted.known.sizes.get(candidate.volume.full_name, wanted.size)
    options = file_systems.mount_options(mount, read_only_device=crypt is not None, lone=lone)
    if candidate.apart:
        options = file_systems.options_apart(mount, f"/{DIRECTORY}/{name}")
    return Snapshot(
        origin=candidate.volume,
        name=name,
        extents=space.extents if space else 0,
        size=space.size if space else 0,
        limit=limit(candidate.volume, wanted.known, space.chunk.size) if space else 0,
        measured=space is not None and space.measured,
        why_size=space.why if space else shared_space(candidate.volume),
        minor=minor,
        fstype=mount.fstype,
        options="" if candidate.raw else options,
        flags=file_systems.mount_flags(mount),
        mounted_at="" if candidate.raw else mount.path,
        crypt=crypt,
        key_file=wanted.key_files.get(candidate.volume.full_name, "") if crypt else "",
        without_journal=lone,
        chunk=space.chunk.size if space else 0,
        chunk_choice=space.chunk if space else None,
        of_free=size.amount if space and size.basis == "free" else 0,
        wanted=space.wanted if space else 0,
    )


def _size_of_nothing(snapshots: Sequence[Snapshot], size: Size) -> Iterator[str]:
    """Yield a note when a size was asked for and no snapshot has one."""
    if size.basis != "auto" and not any(snapshot.extents for snapshot in snapshots):
        yield f"the snapshot size {size} is of no use here: thin snapshots take what they need from their pool"
