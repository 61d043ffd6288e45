"""Which volume is snapshotted for each path, or which subvolume of a btrfs; and what keeps us from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from borg_lvm.machine.btrfs_subvolumes import Subvolume, is_in
from borg_lvm.machine.mounts import RAW, Mount, join, nearest, relative, upwards
from borg_lvm.machine.zfs_datasets import Dataset
from borg_lvm.planning import consent, file_systems
from borg_lvm.planning.snapshot_size import human
from borg_lvm.records import dataclass

if TYPE_CHECKING:
    from borg_lvm.machine.lvm import Volume
    from borg_lvm.planning.view_layout import FrozenPath, Resolved
    from borg_lvm.planning.volumes import SnapshotCandidate, Volumes

NAMED = 5
"""So many subvolumes below a source are named; there may be thousands."""
COUNTED = 1000
"""So many are counted, for each is examined along its whole path."""
Apart = Subvolume | Dataset
"""What has snapshots of its own, in the place of a logical volume."""


@dataclass(frozen=True)
class Chosen:
    """A volume that is to have a snapshot, and the mount that is read from it."""

    candidate: SnapshotCandidate
    mount: Mount

    def placed(self, volumes: Mapping[str, Volume]) -> Chosen:
        """Return the same with the volume as it is among these, by uuid, if it is."""
        volume = self.candidate.volume
        return replace(self, candidate=replace(self.candidate, volume=volumes.get(volume.uuid, volume)))


@dataclass(frozen=True)
class Choices:
    """What is chosen, once for each device or subvolume; for which target; and why others cannot be frozen."""

    chosen: Mapping[str, Chosen]
    targets: Mapping[str, str]
    problems: tuple[str, ...]

    def of(self, path: FrozenPath) -> SnapshotCandidate:
        """Return what is snapshotted for a path."""
        return self.chosen[self.targets[path.target]].candidate


def shared_space(volume: Volume) -> str:
    """Say where a snapshot without a space of its own has it."""
    if not isinstance(volume, Apart):
        return "thin: takes what it needs from the pool, in the pool's chunks"
    used = 100 * (volume.size - volume.vg_free) // max(1, volume.size)
    return f"takes what it needs from {volume.store}, of which {used}% are used and {human(volume.vg_free)} are free"


def choose(resolved: Resolved, volumes: Volumes, key_files: Mapping[str, str]) -> Choices:
    """Choose for each frozen path; `key_files` has each encrypted volume (`vg/lv`) whose snapshot can be opened."""
    chosen: dict[str, Chosen] = {}
    targets: dict[str, str] = {}
    problems = list(resolved.problems)
    for path in sorted(resolved.frozen, key=lambda path: path.mount.fstype == RAW):  # a file system says how to hold
        mount = path.mount
        known = chosen.get(mount.device)
        answer = known.candidate if known else volumes.find(mount, path.inside)
        answer = file_systems.shown_otherwise(mount) or answer
        if isinstance(answer, str):
            nested = "" if path.because == path.target else f" ({path.because})"
            problems.append(f"{path.target}{nested}: {answer}; {consent.way_out(path, resolved)}")
            continue
        targets[path.target] = answer.volume.uuid if answer.apart else mount.device
        chosen.setdefault(targets[path.target], Chosen(answer, mount))
        problems += _nested(path, resolved, volumes) if answer.apart else ()
    problems += _named_twice(chosen.values())
    for choice in chosen.values():
        if choice.candidate.crypt and choice.candidate.volume.full_name not in key_files:
            problems.append(consent.no_key(choice.candidate.volume.full_name, choice.candidate.crypt, choice.mount))
    return Choices(chosen, targets, tuple(problems))


def _nested(path: FrozenPath, resolved: Resolved, volumes: Volumes) -> Iterator[str]:
    """Yield the subvolumes below a path that its snapshot has not, and nothing else covers, or leaves out."""
    covered = {frozen.target for frozen in resolved.frozen}
    live = {live_path.path for live_path in resolved.live_paths}
    lost: list[str] = []
    for subvolume in volumes.subvolumes_below(path.mount, path.inside):
        if len(lost) > COUNTED:
            break
        where = join(path.target, relative(subvolume, path.inside))
        if any(is_in(where, outer) for outer in lost[-1:]):
            continue
        left_out = resolved.left_out.excludes(where) or resolved.left_out.excludes(join(where, "*"))
        if not left_out and nearest(upwards(where), covered, live) == path.target:
            lost.append(where)
    for where in lost[:NAMED]:
        yield file_systems.nested(where, path.target, consent.if_live(where))
    if len(lost) > NAMED:
        more = f"{len(lost) - NAMED}" if len(lost) <= COUNTED else f"more than {COUNTED - NAMED}"
        yield f"{path.target}: {more} more subvolumes lie below it (btrfs subvolume list)"


def _named_twice(chosen: Iterable[Chosen]) -> Iterator[str]:
    """Yield what is wrong with a volume that is to be copied as it is, and once more by the LUKS mapping on it."""
    seen: dict[str, Mount] = {}
    for choice in chosen:
        volume = choice.candidate.volume
        if (other := seen.setdefault(volume.uuid, choice.mount)) is not choice.mount:
            yield f"{choice.mount.path} and {other.path} are both on {volume.full_name}; name one of them"
