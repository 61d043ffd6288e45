"""What is asked of the volumes of a plan beside LVM: their speed, use and past, what opens them, where a journal is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.config.schema import Settings
from borg_lvm.linux import safe_open
from borg_lvm.machine import block_devices, ext_superblock, lvm, mounts
from borg_lvm.planning.snapshot_size import Known
from borg_lvm.planning.volumes import SnapshotCandidate
from borg_lvm.snapshots import luks
from borg_lvm.state.history import History


@contextmanager
def speeds(devices: Sequence[str]) -> Iterator[dict[str, float]]:
    """Give how many bytes per second are written to each device (`major:minor`) while the block goes on."""
    found: dict[str, float] = {}
    before, begin = {device: block_devices.written(device) for device in devices}, time.monotonic()
    yield found
    seconds = max(0.01, time.monotonic() - begin)
    found |= {device: max(0, block_devices.written(device) - count) / seconds for device, count in before.items()}


def known(
    found: Sequence[tuple[mounts.Mount, SnapshotCandidate]],
    settings: Settings,
    past: History,
    speeds: Mapping[str, float],
) -> Known:
    """Gather what else decides on the sizes of snapshots."""
    mounted = {one.volume.uuid: mount for mount, one in found}
    return Known(
        sizes={entry.volume: entry.size for entry in settings.snapshot.volumes},
        minimum=settings.snapshot.minimum,
        maximum=settings.snapshot.maximum,
        past=past.volumes,
        speeds={uuid: speeds[mount.device] for uuid, mount in mounted.items()},
        used={uuid: safe_open.used(mount.path) for uuid, mount in mounted.items() if mount.fstype != mounts.RAW},
    )


def external_journals(found: Sequence[tuple[mounts.Mount, SnapshotCandidate]]) -> frozenset[str]:
    """Return the devices of the file systems whose journal is on another one. The table of mounts does not tell."""
    devices = set()
    for mount, one in found:
        if mount.fstype in ext_superblock.FAMILY:
            name = one.crypt.name if one.crypt else lvm.dm_name(one.volume.vg, one.volume.name)
            with suppress(OSError):  # who cannot read the disk is told by what follows
                if ext_superblock.journal(f"/dev/mapper/{name}").elsewhere:
                    devices.add(mount.device)
    return frozenset(devices)


def key_sources(found: Sequence[tuple[mounts.Mount, SnapshotCandidate]], settings: Settings) -> dict[str, str]:
    """Return what opens the copy of each encrypted volume (`vg/lv`): a key file, or the empty text for the kernel.

    Raises: ConfigError for a key file that others can read.
    """
    configured = {entry.volume: entry.key_file for entry in settings.luks}
    sources = {}
    for _, one in found:
        name = one.volume.full_name
        if one.crypt and name not in sources:
            source = luks.key_source(one.crypt.name, configured.get(name, ""))
            if source is not None:
                sources[name] = source
    return sources
