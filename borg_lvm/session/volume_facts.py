"""What is asked of the volumes of a plan beside LVM: their speed, use and past, what opens them, where a journal is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from borg_lvm.config.schema import Settings
from borg_lvm.config.size import chunk_bytes
from borg_lvm.linux import safe_open
from borg_lvm.machine import block_devices, lvm, mounts
from borg_lvm.machine.lvm_groups import Group
from borg_lvm.planning import file_systems
from borg_lvm.planning.snapshot_size import Sizing
from borg_lvm.planning.space.chunk_size import Writes
from borg_lvm.planning.space.physical_volumes import TAG, Places
from borg_lvm.planning.view_layout import Resolved
from borg_lvm.planning.volumes import SnapshotCandidate
from borg_lvm.state.history import History


@contextmanager
def speeds(devices: Sequence[str]) -> Iterator[dict[str, float]]:
    """Give how many bytes per second are written to each device (`major:minor`) while the block goes on."""
    speed: dict[str, float] = {}
    before, begin = {device: block_devices.written(device) for device in devices}, time.monotonic()
    yield speed
    seconds = max(0.01, time.monotonic() - begin)
    speed |= {device: max(0, block_devices.written(device) - count) / seconds for device, count in before.items()}


def known(
    candidates: Sequence[tuple[mounts.Mount, SnapshotCandidate]],
    settings: Settings,
    past: History,
    speeds: Mapping[str, float],
) -> Sizing:
    """Gather what else decides on the sizes of snapshots."""
    mounted = {candidate.volume.uuid: mount for mount, candidate in candidates}
    entries = settings.snapshot.volumes
    numbers = {
        candidate.volume.uuid: _device(f"/dev/mapper/{lvm.dm_name(candidate.volume.vg, candidate.volume.name)}")
        for _, candidate in candidates
    }
    return Sizing(
        sizes={entry.volume: entry.size for entry in entries if entry.size},
        minimum=settings.snapshot.minimum,
        maximum=settings.snapshot.maximum,
        past=past.volumes,
        speeds={uuid: speeds[mount.device] for uuid, mount in mounted.items()},
        used={uuid: safe_open.used(mount.path) for uuid, mount in mounted.items() if mount.fstype != mounts.RAW},
        writes={uuid: Writes(*block_devices.writes(number)) for uuid, number in numbers.items()},
        rotational=frozenset(uuid for uuid, number in numbers.items() if block_devices.is_rotational(number)),
        chunk=chunk_bytes(settings.snapshot.chunk),
        chunks={entry.volume: chunk_bytes(entry.chunk) for entry in entries if entry.chunk},
    )


def places(settings: Settings, groups: Iterable[Group]) -> Places:
    """Return on which physical volumes the space of snapshots is to lie, by the names that LVM has for them."""
    wanted = settings.snapshot
    own = {entry.volume: entry.physical_volumes for entry in wanted.volumes if entry.physical_volumes is not None}
    given = {name for names in (wanted.physical_volumes, *own.values()) for name in names if not name.startswith(TAG)}
    if not given:
        return Places(wanted.physical_volumes, own)
    by_number = {_device(disk.name): disk.name for group in groups for disk in (*group.disks, *group.others)}
    known = {name: by_number.get(_device(name), name) for name in given}

    def named(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(known.get(name, name) for name in names)

    return Places(named(wanted.physical_volumes), {volume: named(names) for volume, names in own.items()})


def _device(name: str) -> str:
    """Return the number (`major:minor`) of a device of any name below /dev; nothing if there is none of that name."""
    try:
        number = safe_open.own_device_number(name)
    except OSError:
        return ""
    return f"{os.major(number)}:{os.minor(number)}"


def external_journals(candidates: Sequence[tuple[mounts.Mount, SnapshotCandidate]]) -> frozenset[str]:
    """Return the devices of the file systems whose journal is on another one. The table of mounts does not show it."""
    from borg_lvm.machine import ext_superblock  # a refused command line does without it

    devices = set()
    for mount, candidate in candidates:
        if mount.fstype in ext_superblock.FAMILY:
            name = candidate.crypt.name if candidate.crypt else lvm.dm_name(candidate.volume.vg, candidate.volume.name)
            with suppress(OSError):  # what follows reports a disk that cannot be read
                if ext_superblock.journal(f"/dev/mapper/{name}").elsewhere:
                    devices.add(mount.device)
    return frozenset(devices)


def with_held_up(resolved: Resolved, found: Sequence[tuple[mounts.Mount, SnapshotCandidate]]) -> Resolved:
    """Return the same with a problem for each btrfs of which a freeze would have to wait, and all writers with it."""
    points = {mount.device: mount.path for mount, _ in found if mount.fstype == mounts.BTRFS}
    if not points:
        return resolved
    from borg_lvm.linux import btrfs

    problems = []
    for path in points.values():
        with suppress(OSError), safe_open.path(path) as point:  # if it is gone, others say so
            fd = safe_open.reopened(point, os.O_RDONLY)
            try:
                if why := btrfs.held_up(fd):
                    problems.append(file_systems.held_up(path, why, file_systems.HELD_UP))
            finally:
                os.close(fd)
    return replace(resolved, problems=(*resolved.problems, *problems))


def key_sources(candidates: Sequence[tuple[mounts.Mount, SnapshotCandidate]], settings: Settings) -> dict[str, str]:
    """Return what opens the snapshot of each encrypted volume (`vg/lv`): a key file, or the empty text for the kernel.

    Raises: ConfigError for a key file that others can read.
    """
    configured = {entry.volume: entry.key_file for entry in settings.luks}
    sources = {}
    for _, candidate in candidates:
        name = candidate.volume.full_name
        if candidate.crypt and name not in sources:
            from borg_lvm.snapshots import luks

            source = luks.key_source(candidate.crypt.name, configured.get(name, ""))
            if source is not None:
                sources[name] = source
    return sources
