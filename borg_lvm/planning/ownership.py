"""Which volumes are snapshots that a run has made, and may be removed for it. Pure.

A tag is not enough: anybody may have tagged an origin, or a volume of their own. What is removed carries both tags and
is either a volume that the run has written down, by the id that LVM never gives twice, or of our shape in every
respect: name, kind and origin; or, for the scratch space of a drill, name, kind and a tag of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from borg_lvm.machine.lvm import SCRATCH_TAG, TAG, Volume, prefix
from borg_lvm.records import dataclass

_DEVICE = re.compile(rf"-{TAG}--[0-9]{{8}}T[0-9]{{6}}--[0-9a-f]{{6}}--[0-9]+(-cow)?$")
_UUID = len("LVM-") + 64


@dataclass(frozen=True)
class RecordedSnapshots:
    """What a run has written down: names (`vg/lv`) that it meant to give, and ids (dm uuids) of what was made."""

    names: frozenset[str] = frozenset()
    uuids: frozenset[str] = frozenset()


def is_ours(volume: Volume, listed: Iterable[Volume], known: RecordedSnapshots) -> bool:
    """Return whether this is a snapshot that its run has made; `listed` are all volumes."""
    if not volume.run_id or TAG not in volume.tags:
        return False
    if volume.dm_uuid in known.uuids:
        return True
    if not _has_our_name(volume):
        return False
    if SCRATCH_TAG in volume.tags and _is_plain(volume):
        return True
    return _has_plain_origin(volume, listed) or (volume.full_name in known.names and _is_plain(volume))


def orphans(mapped: Mapping[str, str], listed: Iterable[Volume]) -> list[str]:
    """Return the uuids of devices that bear the name of a snapshot of ours, and belong to no volume.

    `mapped` are the uuids of all devices by name, from *before* LVM was asked: it writes down what it is about to make.
    """
    known = {volume.dm_uuid for volume in listed}
    named = [uuid for name, uuid in mapped.items() if _DEVICE.search(name) and uuid.startswith("LVM-")]
    return sorted(uuid for uuid in named if uuid[:_UUID] not in known)  # a snapshot before its space, `-cow`


def may_be_space(volume: Volume) -> bool:
    """Return whether this may be the space of a snapshot that LVM did not know of before the power failed."""
    return TAG in volume.tags and _has_our_name(volume) and _is_plain(volume)


def _has_our_name(volume: Volume) -> bool:
    return re.fullmatch(re.escape(prefix(volume.run_id)) + "[0-9]+", volume.name) is not None


def _is_plain(volume: Volume) -> bool:
    return volume.attr[0] == "-" and not volume.origin and volume.layout <= {"linear", "striped"}


def _has_plain_origin(volume: Volume, listed: Iterable[Volume]) -> bool:
    """Return whether it is a snapshot, thick or thin, of a volume that is none of ours."""
    if not (volume.is_snapshot or (volume.attr[0] == "V" and volume.is_thin)) or not volume.origin:
        return False
    origins = [other for other in listed if other.vg == volume.vg and other.name == volume.origin]
    return bool(origins) and not any(other.name.startswith(f"{TAG}-") for other in origins)
