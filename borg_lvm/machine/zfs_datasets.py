"""The datasets of ZFS that are mounted, the pools that they lie in, and which snapshots of them are ours.

Source: zfs(8), zfs-list(8), zfs-get(8), zpool-list(8), zfsprops(7); /proc/spl/kstat/zfs has a directory for each pool
that is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import subprocesses
from borg_lvm.machine.lvm import ATTRIBUTES, TAG, Volume
from borg_lvm.machine.mounts import ZFS, Mount
from borg_lvm.records import dataclass

POOLS = "/proc/spl/kstat/zfs"
RUN_PROPERTY = "borg-lvm:run"
"""A property of each snapshot that a run makes: the run's id."""
KEEP_PROPERTY = "borg-lvm:keep"
"""One of those that are to be kept: `yes`."""
WORKING = frozenset(("ONLINE", "DEGRADED"))
"""Pools in this state answer. Source: zpoolconcepts(7)."""
_NAME = re.compile(rf"[^@]+@{TAG}-([0-9]{{8}}T[0-9]{{6}}-[0-9a-f]{{6}})-[0-9]+")


@dataclass(frozen=True)
class Dataset(Volume):
    """A file system of ZFS, in the place of a logical volume: it has no group, and all of a group's is empty.

    `name` is the dataset's, `size` and `vg_free` are the pool's, as its own first dataset has them: without what a
    raidz needs for itself. `pool` is its name, `devices` are what it lies on (`major:minor`); a file counts as its own.
    """

    pool_id: str = ""
    devices: tuple[str, ...] = ()
    read_only: bool = False
    state: str = "ONLINE"

    kind = "dataset"

    @property
    def full_name(self) -> str:
        """The dataset, marked as one: a logical volume may have the name that zfs(8) has for it."""
        return f"zfs:{self.name}"

    @property
    def dm_uuid(self) -> str:
        """Nothing of device-mapper's has this id."""
        return f"zfs-{self.uuid}"

    @property
    def id(self) -> str:
        """The id of what lies on the devices."""
        return self.uuid

    @property
    def together(self) -> str:
        """What all have that are snapshotted in one step: the pool."""
        return self.pool_id

    @property
    def store(self) -> str:
        """Where a snapshot has its space."""
        return f"the pool {self.pool}"

    def snapshot(self, name: str) -> str:
        """Return what a snapshot of this is called."""
        return f"{self.name}@{name}"

    def inside(self, path: str) -> str:
        """Return where a path of the file system is in the dataset: there."""
        return path


def imported() -> bool:
    """Whether a pool is imported. No process."""
    with suppress(OSError), os.scandir(POOLS) as entries:
        return any(entry.is_dir() for entry in entries)
    return False


def look(mounts: Iterable[Mount], timeout: float) -> dict[str, Dataset]:
    """Return each dataset of which one of these is a mount, by the number that the mount table has for it.

    Snapshots are not among them. No process if there is none, else two. Raises: ProgramError, SnapshotError.
    """
    names = {mount.device: mount.source for mount in mounts if mount.fstype == ZFS and "@" not in mount.source}
    if not names:
        return {}
    pools = sorted({name.partition("/")[0] for name in names.values()})
    columns = ["-o", "name,guid,readonly,health"]
    states = subprocesses.run(["zpool", "list", "-HpPLv", *columns, *pools], timeout=timeout)
    wanted = [*pools, *names.values()]
    listed = subprocesses.run(
        ["zfs", "list", "-Hp", "-o", "name,guid,used,available", *dict.fromkeys(wanted)], timeout=timeout
    )
    known = parse(states, listed)
    return {device: known[name] for device, name in names.items() if name in known}


def parse(states: str, listed: str) -> dict[str, Dataset]:
    """Return the datasets by their names, of what zpool-list(8) and zfs-list(8) have printed.

    Raises: SnapshotError when that cannot be read.
    """
    try:
        pools = _pools(states)
        rows = [line.split("\t") for line in listed.splitlines()]
        room = {name: (int(used), int(free)) for name, _, used, free in rows}
        return {name: _dataset(name, guid, pools, room) for name, guid, *_ in rows}
    except (ValueError, KeyError) as error:
        raise SnapshotError(f"what ZFS reports of its pools and datasets cannot be read: {listed[:200]!r}") from error


@dataclass(frozen=True)
class _Pool:
    id: str
    read_only: bool
    state: str
    paths: tuple[str, ...]


def _pools(states: str) -> dict[str, _Pool]:
    """Return the pools by their names; what they lie on stands below each, and after a tab."""
    pools: dict[str, _Pool] = {}
    paths: list[str] = []
    name = ""
    for line in states.splitlines():
        if line.startswith("\t"):
            word = line.split("\t")[1]
            paths += [word] if word.startswith("/") else []
        else:
            paths = []
            name, guid, read_only, state = line.split("\t")[:4]
            pools[name] = _Pool(guid, read_only == "on", state, ())
        pools[name] = _Pool(pools[name].id, pools[name].read_only, pools[name].state, tuple(paths))
    return pools


def _dataset(name: str, guid: str, pools: dict[str, _Pool], room: dict[str, tuple[int, int]]) -> Dataset:
    pool = name.partition("/")[0]
    used, free = room[pool]
    known = pools[pool]
    return Dataset(
        vg="",
        vg_uuid="",
        vg_free=free,
        extent=0,
        name=name,
        uuid=f"{known.id}-{guid}",
        size=used + free,
        attr="-" * ATTRIBUTES,
        layout=frozenset([ZFS]),
        role=frozenset(),
        active=True,
        suspended=False,
        tags=(),
        pool=pool,
        origin="",
        data_percent=None,
        metadata_percent=None,
        minor=-1,
        pool_id=known.id,
        devices=tuple(filter(None, map(_number, known.paths))),
        read_only=known.read_only,
        state=known.state,
    )


def _number(path: str) -> str:
    """Return the number (`major:minor`) of a device of a pool, or of what a file lies on; nothing if it is gone."""
    with suppress(OSError):
        info = os.stat(path)
        number = info.st_rdev or info.st_dev
        return f"{os.major(number)}:{os.minor(number)}"
    return ""


def run_of(name: str) -> str:
    """Return the run by which a snapshot of this name was made; empty if it is none of ours."""
    match = _NAME.fullmatch(name)
    return match[1] if match else ""


@dataclass(frozen=True)
class OwnSnapshot:
    """A snapshot that bears the name of a run and its property: the run, and whether it is to be kept."""

    name: str
    run_id: str
    kept: bool


def snapshots(timeout: float) -> list[OwnSnapshot]:
    """Return all snapshots of runs, in all pools. One process; one more if there is any. Raises: ProgramError."""
    listed = subprocesses.run(["zfs", "list", "-H", "-t", "snapshot", "-o", "name"], timeout=timeout)
    names = [name for name in listed.splitlines() if run_of(name)]
    if not names:
        return []
    properties = properties_of(names, (RUN_PROPERTY, KEEP_PROPERTY), timeout)
    return own(names, properties)


def own(names: Sequence[str], properties: dict[tuple[str, str], str]) -> list[OwnSnapshot]:
    """Return those snapshots that are ours by their property, too. Pure."""
    return [
        OwnSnapshot(name, run_of(name), properties.get((name, KEEP_PROPERTY)) == "yes")
        for name in names
        if run_of(name) and properties.get((name, RUN_PROPERTY)) == run_of(name)
    ]


def properties_of(names: Sequence[str], wanted: Sequence[str], timeout: float) -> dict[tuple[str, str], str]:
    """Return properties of snapshots, by the name of each and theirs. Raises: ProgramError: one is gone."""
    said = subprocesses.run(
        ["zfs", "get", "-Hp", "-o", "name,property,value", ",".join(wanted), *names], timeout=timeout
    )
    rows = (line.split("\t", 2) for line in said.splitlines())
    return {(name, key): value for name, key, value in rows}
