"""The plan of a run: everything decided, nothing done. Pure; shown by `borg-lvm plan`, carried out by `run`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.config.size import Size
from borg_lvm.errors import SourceError
from borg_lvm.linux.safe_open import Identity
from borg_lvm.machine import lvm
from borg_lvm.machine.block_devices import persistent_minors
from borg_lvm.machine.lvm import RUN_TAG, TAG, Volume, prefix
from borg_lvm.machine.mounts import RAW, Mount
from borg_lvm.planning import application_data, consent, file_systems
from borg_lvm.planning.application_data import PlannedApplication
from borg_lvm.planning.snapshot_size import Allotted, Known, allot, limit
from borg_lvm.planning.view_layout import Hole as LiveHole
from borg_lvm.planning.view_layout import Resolved
from borg_lvm.planning.volumes import Crypt, SnapshotCandidate, Volumes


@dataclass(frozen=True)
class Snapshot:
    """A snapshot to be made of one volume, and how its file system is mounted.

    `extents` is 0 for a thin snapshot, which needs no space of its own; it may grow up to `limit` bytes. `measured`:
    it has what past runs have needed. `key_file` opens the LUKS copy when the kernel does not give the key of the
    running mapping. Where the volume itself is the source, `fstype` is `raw`, and `mounted_at` is empty: nothing is
    mounted. `without_journal`: the journal is on another device, and the copy is mounted without it.
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

    @property
    def hold(self) -> Literal["freeze", "suspend"]:
        """How the volume is held for the instant: its device is suspended, which freezes the file system on it.

        One above LUKS, which device-mapper does not see, is frozen before.
        """
        return "freeze" if self.crypt else "suspend"

    @property
    def full_name(self) -> str:
        """`vg/lv` of the snapshot."""
        return f"{self.origin.vg}/{self.name}"

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
        """`thick` or `thin`."""
        return "thick" if self.extents else "thin"

    @property
    def crypt_name(self) -> str:
        """The device-mapper name of the opened copy of a LUKS volume."""
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
class Laid:
    """One cover of the view: `inside` of copy number `copy`, or its `device`, is laid over `target`.

    `because` is why, and for a device the name that it was given by.
    """

    target: str
    copy: int
    inside: str
    because: str
    device: bool = False


@dataclass(frozen=True)
class Plan:
    """All that a run will do.

    The copies are in the order in which their volumes are held. `seen` is what the survey saw at each path that is
    opened later; `ways` says of each source, as it was given, what of its name is resolved, and where that led. Sources
    that did not exist are `absent`. `proof` is what is read back when the command has ended, if anything is.
    """

    run_id: str
    copies: tuple[Snapshot, ...]
    covers: tuple[Laid, ...]
    holes: tuple[LiveHole, ...]
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
        return application_data.late(self.applications)

    @property
    def pivots(self) -> bool:
        """Whether the command gets a frozen root, because `/` itself is a source."""
        return any(laid.target == "/" for laid in self.covers)

    @property
    def tags(self) -> tuple[str, str]:
        """The LVM tags of every snapshot of this run."""
        return TAG, f"{RUN_TAG}{self.run_id}"


@dataclass(frozen=True)
class Wishes:
    """What configuration and command line ask of the plan.

    `key_files` says for each encrypted volume (`vg/lv`) what opens its copy: a path, or the empty text when the
    kernel gives the key; a volume without an entry cannot be opened. `logs` are volumes (`vg/lv`) that are held last.
    `external_journals` are the devices (`major:minor`) of file systems whose journal is on another one.
    """

    run_id: str
    size: Size
    known: Known = field(default_factory=Known)
    persistent_minor: bool = True
    consistency: str = "instant"
    key_files: Mapping[str, str] = field(default_factory=dict)
    logs: frozenset[str] = frozenset()
    external_journals: frozenset[str] = frozenset()


def make(
    wishes: Wishes, resolved: Resolved, sources: Sequence[str], volumes: Volumes, taken_minors: frozenset[int]
) -> Plan:
    """Decide everything.

    Raises: SourceError with every reason why a source cannot be frozen, all of them at once; or when there is nothing
    to freeze at all, for then the command would read everything live under our name.
    """
    chosen, problems = _chosen(resolved, volumes, wishes)
    held = volumes.ordered([one.candidate for one in chosen.values()], wishes.logs)
    space, too_little = allot([one.volume for one in held if not one.volume.is_thin], wishes.size, wishes.known)
    problems += [*volumes.written_while_held(held), *too_little, *volumes.crowded([one.volume for one in held])]
    if problems:
        raise SourceError("cannot freeze every source path; nothing was done", details=tuple(problems))
    if not held:
        raise _nothing_to_do(resolved)
    minors = persistent_minors((one.volume.uuid for one in held), taken_minors) if wishes.persistent_minor else {}
    by_volume = {one.candidate.volume.uuid: one for one in chosen.values()}
    copies = tuple(
        _snapshot(number, by_volume[uuid], wishes, space.get(uuid), minors.get(uuid))
        for number, uuid in enumerate(one.volume.uuid for one in held)
    )
    return Plan(
        run_id=wishes.run_id,
        copies=copies,
        covers=tuple(_laid(resolved, chosen, [one.volume.uuid for one in held])),
        holes=resolved.holes,
        live_sources=resolved.live_sources,
        sources=tuple(sources),
        consistency=wishes.consistency if len(copies) > 1 else "instant",
        notes=(*resolved.notes, *_size_of_nothing(copies, wishes.size)),
        absent=resolved.absent,
    )


@dataclass(frozen=True)
class _Chosen:
    """A volume that is to have a snapshot, and the mount that is read from it."""

    candidate: SnapshotCandidate
    mount: Mount


def _chosen(resolved: Resolved, volumes: Volumes, wishes: Wishes) -> tuple[dict[str, _Chosen], list[str]]:
    """Return the volume of each cover's device, once for each device, and why others cannot be frozen."""
    chosen: dict[str, _Chosen] = {}
    problems = list(resolved.problems)
    for cover in sorted(resolved.covers, key=lambda cover: cover.mount.fstype == RAW):  # a file system says how to hold
        mount = cover.mount
        known = chosen.get(mount.device)
        answer = file_systems.shown_otherwise(mount) or (known.candidate if known else volumes.find(mount))
        if isinstance(answer, str):
            nested = "" if cover.because == cover.target else f" ({cover.because})"
            problems.append(f"{cover.target}{nested}: {answer}; {consent.way_out(cover, resolved)}")
        else:
            chosen.setdefault(mount.device, _Chosen(answer, mount))
    problems += _named_twice(chosen.values())
    for one in chosen.values():
        if one.candidate.crypt and one.candidate.volume.full_name not in wishes.key_files:
            problems.append(consent.no_key(one.candidate.volume.full_name, one.candidate.crypt, one.mount))
    return chosen, problems


def _laid(resolved: Resolved, chosen: Mapping[str, _Chosen], order: Sequence[str]) -> Iterator[Laid]:
    """Yield what is laid over each path; `order` are the uuids of the volumes."""
    for cover in resolved.covers:
        number = order.index(chosen[cover.mount.device].candidate.volume.uuid)
        yield Laid(cover.target, number, cover.inside, cover.because, device=cover.mount.fstype == RAW)


def _snapshot(number: int, chosen: _Chosen, wishes: Wishes, space: Allotted | None, minor: int | None) -> Snapshot:
    found, mount = chosen.candidate, chosen.mount
    crypt, lone = found.crypt, mount.device in wishes.external_journals
    return Snapshot(
        origin=found.volume,
        name=f"{prefix(wishes.run_id)}{number}",
        extents=space.extents if space else 0,
        size=space.size if space else 0,
        limit=limit(found.volume, wishes.known) if space else 0,
        measured=space is not None and space.measured,
        why_size=space.why if space else "thin: takes what it needs from the pool",
        minor=minor,
        fstype=mount.fstype,
        options="" if found.raw else file_systems.mount_options(mount, read_only_device=crypt is not None, lone=lone),
        flags=file_systems.mount_flags(mount),
        mounted_at="" if found.raw else mount.path,
        crypt=crypt,
        key_file=wishes.key_files.get(found.volume.full_name, "") if crypt else "",
        without_journal=lone,
    )


def _size_of_nothing(copies: Sequence[Snapshot], size: Size) -> Iterator[str]:
    """Yield a note when a size was asked for and no snapshot has one."""
    if size.basis != "auto" and not any(copy.extents for copy in copies):
        yield f"the snapshot size {size} is of no use here: thin snapshots take what they need from their pool"


def _nothing_to_do(resolved: Resolved) -> SourceError:
    live = [f"{path}: declared live (--live {declared})" for path, declared in resolved.live_sources]
    return SourceError(
        "there is nothing to freeze; nothing was done",
        details=(*live, *resolved.notes),
        remedy="name with --path what is to be frozen below it, or run the command without borg-lvm"
        if resolved.live_sources
        else "run the command without borg-lvm, or name another source path",
    )


def _named_twice(chosen: Iterable[_Chosen]) -> Iterator[str]:
    """Yield what is wrong with a volume that is to be copied as it is, and once more by the LUKS mapping on it."""
    seen: dict[str, Mount] = {}
    for one in chosen:
        volume = one.candidate.volume
        other = seen.setdefault(volume.uuid, one.mount)
        if other is not one.mount:
            yield f"{one.mount.path} and {other.path} are both on {volume.full_name}; name one of them"
