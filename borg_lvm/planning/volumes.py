"""From a mount to the logical volume that can be snapshotted for it, or the reason why none can. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from borg_lvm.machine.block_devices import BlockDevice
from borg_lvm.machine.btrfs_subvolumes import Tree
from borg_lvm.machine.lvm import Inventory, Volume
from borg_lvm.machine.lvm_groups import Group
from borg_lvm.machine.mounts import BTRFS, RAW, ZFS, Mount
from borg_lvm.machine.zfs_datasets import Dataset
from borg_lvm.planning import file_systems, snapshotable
from borg_lvm.records import dataclass

if TYPE_CHECKING:
    from borg_lvm.machine.btrfs_devices import BtrfsDevices

_ZVOL = "a volume of ZFS (zvol), of which no snapshot is taken: only of datasets that are mounted"


@dataclass(frozen=True)
class Crypt:
    """The dm-crypt mapping that lies between a file system and its volume; `uuid` as device-mapper has it."""

    name: str
    uuid: str


@dataclass(frozen=True)
class SnapshotCandidate:
    """A volume that can be snapshotted for a mount, and the LUKS mapping between, if there is one.

    `raw`: the volume itself is the source, whatever is on it. `apart`: it is a subvolume of a btrfs, or a dataset of
    ZFS.
    """

    volume: Volume
    crypt: Crypt | None
    raw: bool = False
    apart: bool = False


class Volumes:
    """The machine's volumes, to be asked for the one below a mount, or for what has to do without one.

    `inventory`: all of them, as they were listed. By the first device of a btrfs (`major:minor`): `btrfs` has what it
    lies on, `trees` its subvolumes; and the dataset of ZFS by the number that its mount has.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        stack: Mapping[str, BlockDevice],
        groups: Mapping[str, Group] = MappingProxyType({}),
        btrfs: Mapping[str, BtrfsDevices] = MappingProxyType({}),
        trees: Mapping[str, Tree | Dataset] = MappingProxyType({}),
    ) -> None:
        self.inventory = Inventory(tuple(volumes), groups)
        self._groups = groups
        self._stack = stack
        self._btrfs = btrfs
        self._trees = trees
        self._devices = {device.dm_uuid: device for device in stack.values()}
        self._by_uuid = {volume.dm_uuid: volume for volume in volumes}
        self._by_name = {(volume.vg_uuid, volume.name): volume for volume in volumes}

    def find(self, mount: Mount, inside: str = "") -> SnapshotCandidate | str:
        """Return the volume below a mount, or say in one clause why it cannot be frozen.

        Where there is none, and the mount is one of a btrfs: the subvolume that has the path `inside` of that.
        """
        if mount.fstype == RAW:
            return self._find_raw(mount.device)
        if "\n" in mount.path:
            return "there is a line break in the name of its mount point; mount it elsewhere"
        if reason := file_systems.not_a_disk(mount):
            return reason
        if mount.fstype == ZFS:
            return self._find_dataset(mount)
        if tree := self._apart(mount):
            subvolume = tree.holding(inside or mount.root)
            reason = file_systems.of_subvolume(mount, subvolume, tree)
            return reason or SnapshotCandidate(subvolume, None, apart=True)
        return self._find_below(mount)

    def subvolumes_below(self, mount: Mount, inside: str) -> Sequence[str]:
        """Return the subvolumes of a btrfs below a path of it that a snapshot of the one around them does not have."""
        tree = self._apart(mount)
        return tree.below(inside) if tree else ()

    def with_trees_of(self, other: Volumes) -> Volumes:
        """Return the same, with what others know of subvolumes and datasets, and of the devices below these."""
        stack = {**other._stack, **self._stack}
        return Volumes(self.inventory.volumes, stack, self._groups, self._btrfs, {**self._trees, **other._trees})

    def _find_dataset(self, mount: Mount) -> SnapshotCandidate | str:
        known = self._trees.get(mount.device)
        dataset = known if isinstance(known, Dataset) else None
        reason = file_systems.of_dataset(mount, dataset)
        return SnapshotCandidate(dataset, None, apart=True) if dataset and not reason else reason

    def _apart(self, mount: Mount) -> Tree | None:
        """Return the btrfs of a mount if no snapshot of one volume would hold all of it, or be one."""
        tree = self._trees.get(mount.device) if mount.fstype == BTRFS else None
        device = self._stack.get(mount.device)
        if not isinstance(tree, Tree) or device is None:
            return None
        below = self._below(device) if device.dm_uuid.startswith("CRYPT-") else device
        is_volume = below.dm_uuid.startswith("LVM-")
        return None if is_volume and not file_systems.of_btrfs(self._btrfs.get(mount.device)) else tree

    def crowded(self, volumes: Sequence[Volume]) -> Iterator[str]:
        """Yield the groups that may not have as many more volumes as snapshots are wanted of these."""
        return snapshotable.crowded(volumes, self._groups)

    def suspended(self) -> list[Volume]:
        """Return the volumes that are suspended, of those that some device lies on which was examined."""
        return [volume for volume in self.inventory.volumes if volume.suspended and volume.dm_uuid in self._devices]

    def below(self, volume: Volume) -> frozenset[str]:
        """Return the uuids of all device-mapper devices that a volume lies on, as far down as can be seen."""
        waiting = [self._devices[volume.dm_uuid]] if volume.dm_uuid in self._devices else []
        for tree in self._trees.values():
            if volume.uuid.startswith(tree.id):  # a subvolume, or a dataset
                waiting = [BlockDevice("", "", "", "", False, tree.devices)]
        uuids: dict[str, str] = {}
        while waiting:
            for number in waiting.pop().slaves:
                if number not in uuids and number in self._stack:
                    uuids[number] = self._stack[number].dm_uuid
                    waiting.append(self._stack[number])
        return frozenset(filter(None, uuids.values()))

    def ordered(self, members: Sequence[SnapshotCandidate], logs: Collection[str]) -> list[SnapshotCandidate]:
        """Return volumes in the order in which they are held: logs (`vg/lv`) last, what lies on another before that.

        What cannot be held comes first: its snapshot is taken while all others are, and before theirs.

        A volume that is being suspended first writes what is dirty to what lies below. And the order matters to a
        program that writes by io_uring, as MariaDB does: a write that it has begun there ends, for the kernel, when the
        thread that began it comes along again, and until then the file system cannot be held. A thread that waits for
        another volume, which is held already, does not come along: then both wait for ever. Who writes data may have to
        wait for the log, never the other way round.
        """
        uuids = {member.volume.dm_uuid for member in members}

        def place(member: SnapshotCandidate) -> tuple[bool, int, bool]:
            return not member.apart, -len(self.below(member.volume) & uuids), member.volume.full_name in logs

        return sorted(members, key=place)

    def written_while_held(self, held: Sequence[SnapshotCandidate]) -> Iterator[str]:
        """Yield what cannot be held together: a volume whose own metadata are read or written then, on another."""
        names = {candidate.volume.dm_uuid: candidate.volume.full_name for candidate in held}
        for volume in [candidate.volume for candidate in held]:
            if volume.layout <= {"linear", "striped"}:
                continue
            what = "its thin pool" if volume.is_thin else "it"
            for name in sorted(names[uuid] for uuid in self.below(volume) & names.keys()):
                yield (
                    f"{volume.full_name} lies on {name}, which is to be suspended at the same instant, and {what} "
                    "must be read and written then; back them up in runs of their own"
                )

    def _find_below(self, mount: Mount) -> SnapshotCandidate | str:
        device = self._stack.get(mount.device)
        if device is None:
            return f"its {mount.fstype} file system lies on {mount.source}, which is no block device that we can see"
        crypt = None
        if device.dm_uuid.startswith("CRYPT-"):
            reason = _bad_crypt(device)
            if reason:
                return reason
            crypt = Crypt(device.dm_name, device.dm_uuid)
            device = self._below(device)
        volume = self._by_uuid.get(device.dm_uuid)
        if volume is None:
            return self._not_listed(device)
        if reason := file_systems.refusal(mount, volume):
            return reason
        if mount.fstype == BTRFS and (reason := file_systems.of_btrfs(self._btrfs.get(mount.device))):
            return reason
        return self._refusal(volume, device) or SnapshotCandidate(volume, crypt)

    def _find_raw(self, number: str) -> SnapshotCandidate | str:
        device = self._stack.get(number)
        if device is not None and device.dm_uuid.startswith("CRYPT-"):
            return f"it is the mapping {device.dm_name}; name the logical volume below it, or a directory on it"
        volume = self._by_uuid.get(device.dm_uuid) if device else None
        if device is not None and volume is None and device.dm_uuid.startswith("LVM-"):
            return self._not_listed(device)
        if device is None or volume is None:
            known = f"it is {device.name}, {_ZVOL}" if device and _is_zvol(device) else ""
            return known or f"it is the block device {number}, which is not a logical volume"
        return self._refusal(volume, device) or SnapshotCandidate(volume, None, raw=True)

    def _below(self, device: BlockDevice) -> BlockDevice:
        """Return the one device below a mapping, or the mapping itself if none can be seen."""
        return next((self._stack[number] for number in device.slaves if number in self._stack), device)

    def _refusal(self, volume: Volume, device: BlockDevice) -> str:
        pool = self._by_name.get((volume.vg_uuid, volume.pool)) if volume.is_thin else None
        reason = snapshotable.volume_refusal(volume, self._groups.get(volume.vg_uuid), pool)
        if not reason and (volume.suspended or device.suspended):
            reason = f"is suspended; find out who suspended it, then: dmsetup resume {device.dm_name}"
        if not reason and not volume.active:
            reason = (  # for the kernel has its device
                "LVM takes for inactive, though it is in use: global/activation is 0 in its configuration; set it to 1 "
                "(lvm.conf(5))"
            )
        return f"it lies on {volume.full_name}, which {reason}" if reason else ""

    def _not_listed(self, device: BlockDevice) -> str:
        reason = snapshotable.unlisted(device.dm_uuid, self._groups)
        other = _ZVOL if _is_zvol(device) else "which is not a logical volume"
        what = f"a logical volume {reason}" if reason else other
        return f"it lies on {device.dm_name or device.name}, {what}"


def _is_zvol(device: BlockDevice) -> bool:
    return device.name.startswith("zd") and device.name[2:].isdecimal()


def _bad_crypt(device: BlockDevice) -> str:
    if not device.dm_uuid.startswith("CRYPT-LUKS"):
        return f"it lies on {device.dm_name}, a dm-crypt mapping without LUKS; only LUKS can be copied"
    if device.suspended:
        return f"it lies on {device.dm_name}, which is suspended; to resume it: cryptsetup luksResume {device.dm_name}"
    return ""
