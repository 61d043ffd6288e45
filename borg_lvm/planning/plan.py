"""The plan of a run: everything decided, nothing done. Pure; shown by `borg-lvm plan`, carried out by `run`."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from borg_lvm.config.size import Size
from borg_lvm.errors import SourceError
from borg_lvm.linux.safe_open import Identity
from borg_lvm.machine import lvm
from borg_lvm.machine.lvm import RUN_TAG, TAG, Volume, prefix
from borg_lvm.machine.mounts import RAW, Mount
from borg_lvm.planning import application_data, consent, file_systems
from borg_lvm.planning.application_data import PlannedApplication
from borg_lvm.planning.snapshot_size import Allotted, Known, allot, limit
from borg_lvm.planning.view_layout import Hole as LiveHole
from borg_lvm.planning.view_layout import Resolved, if_live
from borg_lvm.planning.volumes import Crypt, SnapshotCandidate, Volumes

MINORS = 1 << 20
FIRST_MINOR = 1 << 19
"""Snapshots get their device numbers in the upper half of the minor numbers, far from those LVM hands out."""


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
    that did not exist are `absent`.
    """

    run_id: str
    copies: tuple[Snapshot, ...]
    covers: tuple[Laid, ...]
    holes: tuple[LiveHole, ...]
    live_sources: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    consistency: str
    notes: tuple[str, ...] = ()
    applications: tuple[PlannedApplication, ...] = ()
    seen: Mapping[str, Identity] = field(default_factory=dict)
    ways: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

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
    problems = list(resolved.problems)
    found = _found(resolved, volumes, problems)
    problems += [
        _no_key(one, mount)
        for one, mount in found.values()
        if one.crypt and one.volume.full_name not in wishes.key_files
    ]
    below = {one.volume.dm_uuid: volumes.below(one.volume) for one, _ in found.values()}
    held = _ordered([one for one, _ in found.values()], wishes.logs, below)
    problems += _written_while_held(held, below)
    space, too_little = allot([one.volume for one in held if not one.volume.is_thin], wishes.size, wishes.known)
    problems += too_little
    problems += volumes.crowded([one.volume for one in held])
    if problems:
        raise SourceError("cannot freeze every source path; nothing was done", details=tuple(problems))
    if not held:
        raise _nothing_to_do(resolved)
    minors = _minors([one.volume for one in held], taken_minors) if wishes.persistent_minor else {}
    mounted = {one.volume.uuid: mount for one, mount in found.values()}
    order = {one.volume.uuid: number for number, one in enumerate(held)}
    copies = tuple(
        _copy(order[uuid], one, mounted[uuid], wishes, space.get(uuid), minors.get(uuid))
        for one in held
        for uuid in [one.volume.uuid]
    )
    covers = tuple(
        Laid(
            cover.target,
            order[found[cover.mount.device][0].volume.uuid],
            cover.inside,
            cover.because,
            device=cover.mount.fstype == RAW,
        )
        for cover in resolved.covers
    )
    return Plan(
        run_id=wishes.run_id,
        copies=copies,
        covers=covers,
        holes=resolved.holes,
        live_sources=resolved.live_sources,
        sources=tuple(sources),
        consistency=wishes.consistency if len(copies) > 1 else "instant",
        notes=(*resolved.notes, *_size_of_nothing(copies, wishes.size)),
        absent=resolved.absent,
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


def _ordered(
    members: Sequence[SnapshotCandidate], logs: Collection[str], below: Mapping[str, frozenset[str]]
) -> list[SnapshotCandidate]:
    """Return the volumes in the order in which they are held: logs (`vg/lv`) last, what lies on another before that.

    Whoever is suspended first writes what is dirty to what lies below. And the order matters to a program that writes
    by io_uring, as MariaDB does: a write that it has begun there ends, for the kernel, when the thread that began it
    comes along again, and until then the file system cannot be held. A thread that waits for another volume, which is
    held already, does not come along: then both wait for ever. Who writes data may have to wait for the log, never the
    other way round.
    """
    uuids = {one.volume.dm_uuid for one in members}
    return sorted(members, key=lambda one: (-len(below[one.volume.dm_uuid] & uuids), one.volume.full_name in logs))


def _written_while_held(held: Sequence[SnapshotCandidate], below: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield what cannot be held together: a volume whose own metadata are read or written then, on another of them."""
    names = {one.volume.dm_uuid: one.volume.full_name for one in held}
    for one in held:
        if one.volume.layout <= {"linear", "striped"}:
            continue
        what = "its thin pool" if one.volume.is_thin else "it"
        for name in sorted(names[uuid] for uuid in below[one.volume.dm_uuid] & names.keys()):
            yield (
                f"{one.volume.full_name} lies on {name}, which is to be suspended at the same instant, and {what} must "
                "be read and written then; back them up in runs of their own"
            )


def _found(resolved: Resolved, volumes: Volumes, problems: list[str]) -> dict[str, tuple[SnapshotCandidate, Mount]]:
    """Return the volume of each cover's device, once for each device; what cannot be frozen goes into `problems`."""
    found: dict[str, tuple[SnapshotCandidate, Mount]] = {}
    for cover in sorted(
        resolved.covers, key=lambda cover: cover.mount.fstype == RAW
    ):  # a file system on it says how to hold it
        known = found.get(cover.mount.device)
        answer = file_systems.shown_otherwise(cover.mount) or (known[0] if known else volumes.find(cover.mount))
        if isinstance(answer, str):
            nested = "" if cover.because == cover.target else f" ({cover.because})"
            problems.append(f"{cover.target}{nested}: {answer}; {consent.way_out(cover, resolved)}")
        else:
            found.setdefault(cover.mount.device, (answer, cover.mount))
    problems += _named_twice(found)
    return found


def _named_twice(found: Mapping[str, tuple[SnapshotCandidate, Mount]]) -> Iterator[str]:
    """Yield what is wrong with a volume that is to be copied as it is, and once more by the LUKS mapping on it."""
    seen: dict[str, Mount] = {}
    for one, mount in found.values():
        other = seen.setdefault(one.volume.uuid, mount)
        if other is not mount:
            yield f"{mount.path} and {other.path} are both on {one.volume.full_name}; name one of them"


def _no_key(found: SnapshotCandidate, mount: Mount) -> str:
    assert found.crypt
    return (
        f"{mount.path}: it lies on {found.volume.full_name}, which is encrypted, and the kernel does not give the key "
        f"of the mapping {found.crypt.name}: name a key file, in /etc/crypttab or under `luks:` in the configuration "
        f"(`volume: {found.volume.full_name}`), and a detached header, if it has one, in /etc/crypttab (`header=`); "
        f"{if_live(mount.path)}"
    )


def _minors(volumes: Sequence[Volume], taken: frozenset[int]) -> dict[str, int]:
    """Choose a device number for each snapshot from its origin's id, so that it is the same in every run."""
    chosen: dict[str, int] = {}
    used = set(taken)
    for volume in sorted(volumes, key=lambda volume: volume.uuid):
        minor = FIRST_MINOR + zlib.crc32(volume.uuid.encode()) % (MINORS - FIRST_MINOR)
        while minor in used:
            minor = FIRST_MINOR + (minor + 1 - FIRST_MINOR) % (MINORS - FIRST_MINOR)
        used.add(minor)
        chosen[volume.uuid] = minor
    return chosen


def _copy(
    number: int, found: SnapshotCandidate, mount: Mount, wishes: Wishes, space: Allotted | None, minor: int | None
) -> Snapshot:
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
