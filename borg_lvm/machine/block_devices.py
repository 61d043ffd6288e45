"""Block devices from sysfs: which device-mapper target a mount stands on, and what lies below it.

Source: Documentation/ABI/testing/sysfs-block-dm (dm/name, dm/uuid, dm/suspended) and sysfs-block (slaves, ro).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable

from borg_lvm.records import dataclass

SYSFS = "/sys/dev/block"
BLOCK = "/sys/block"
MINORS = 1 << 20
FIRST_MINOR = 1 << 19
"""Snapshots get their device numbers in the upper half of the minor numbers, far from those LVM hands out."""


@dataclass(frozen=True)
class BlockDevice:
    """A block device: `number` is `major:minor`, `dm_name`/`dm_uuid` are empty where it is not device-mapper's."""

    number: str
    name: str
    dm_name: str
    dm_uuid: str
    suspended: bool
    slaves: tuple[str, ...]


def gather(numbers: Iterable[str]) -> dict[str, BlockDevice]:
    """Describe the devices of the given `major:minor` numbers and all that lie below them, by number."""
    devices: dict[str, BlockDevice] = {}
    waiting = [number for number in numbers if not number.startswith("0:")]
    while waiting:
        number = waiting.pop()
        if number in devices:
            continue
        device = described(number)
        if device:
            devices[number] = device
            waiting.extend(device.slaves)
    return devices


def bottom_up(numbers: Iterable[str]) -> list[BlockDevice]:
    """Return these devices and all that lie below them, each after those that it lies on."""
    known = gather(numbers)
    ordered: dict[str, BlockDevice] = {}

    def place(number: str) -> None:
        if number in known and number not in ordered:
            for slave in known[number].slaves:
                place(slave)
            ordered[number] = known[number]

    for number in known:
        place(number)
    return list(ordered.values())


def written(number: str) -> int:
    """Return how many bytes have been written to a device so far; 0 if nobody knows."""
    return writes(number)[1]


def writes(number: str) -> tuple[int, int]:
    """Return how many writes to a device have ended since it is there, and their bytes; 0 if nobody knows.

    Source: Documentation/block/stat.rst, the fifth field and the seventh.
    """
    fields = _text(f"{SYSFS}/{number}/stat").split()
    return (int(fields[4]), int(fields[6]) * 512) if len(fields) > 6 else (0, 0)


def is_rotational(number: str) -> bool:
    """Return whether a device, or any below it, is a rotating disk. Source: Documentation/ABI/stable/sysfs-block."""
    return _text(f"{SYSFS}/{number}/queue/rotational") == "1"


def described(number: str) -> BlockDevice | None:
    """Describe the device of a number (`major:minor`); None if there is none."""
    base = f"{SYSFS}/{number}"
    try:
        name = os.path.basename(os.readlink(base))
    except OSError:
        return None
    slaves = tuple(_text(f"{base}/slaves/{name}/dev") for name in sorted(_names(f"{base}/slaves")))
    return BlockDevice(
        number=number,
        name=name,
        dm_name=_text(f"{base}/dm/name"),
        dm_uuid=_text(f"{base}/dm/uuid"),
        suspended=_text(f"{base}/dm/suspended") == "1",
        slaves=slaves,
    )


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""


def mapped() -> dict[str, str]:
    """Return the uuids of device-mapper's devices, by their names."""
    bases = [f"{BLOCK}/{name}/dm" for name in _names(BLOCK) if name.startswith("dm-")]
    return {_text(f"{base}/name"): _text(f"{base}/uuid") for base in bases}


def taken_minors() -> frozenset[int]:
    """Return the minor numbers that device-mapper devices have at the moment."""
    major = _dm_major()
    numbers = (name.split(":") for name in _names(SYSFS))
    return frozenset(int(minor) for number, minor in numbers if number == major)


def persistent_minors(uuids: Iterable[str], taken: frozenset[int]) -> dict[str, int]:
    """Choose a minor number for the snapshot of each volume, from the volume's LVM uuid: the same in every run."""
    chosen: dict[str, int] = {}
    used = set(taken)
    for uuid in sorted(uuids):
        minor = FIRST_MINOR + zlib.crc32(uuid.encode()) % (MINORS - FIRST_MINOR)
        while minor in used:
            minor = FIRST_MINOR + (minor + 1 - FIRST_MINOR) % (MINORS - FIRST_MINOR)
        used.add(minor)
        chosen[uuid] = minor
    return chosen


def _dm_major() -> str:
    with open("/proc/devices", encoding="ascii") as file:
        rows = (line.split() for line in file)
        return next((row[0] for row in rows if len(row) == 2 and row[1] == "device-mapper"), "")


def logical_block(number: int) -> int:
    """Return the logical block size of a device (`st_rdev`) in bytes. Raises: OSError, ValueError."""
    path = f"{SYSFS}/{os.major(number)}:{os.minor(number)}/queue/logical_block_size"
    with open(path, encoding="ascii") as file:
        return int(file.read())
