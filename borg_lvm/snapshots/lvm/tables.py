"""The tables of the devices that a snapshot consists of, as LVM makes them. Pure.

    ORIGIN        snapshot-origin over ORIGIN-real
    ORIGIN-real   what the origin was before: linear, striped, raid …
    SNAPSHOT      snapshot of ORIGIN-real, with its space in SNAPSHOT-cow
    SNAPSHOT-cow  what the snapshot's volume was before: the space

Source: lvm2, lib/activate/dev_manager.c; Documentation/admin-guide/device-mapper/snapshot.rst and dm-raid.rst.
"""

from __future__ import annotations

from collections.abc import Sequence

from borg_lvm.linux.device_mapper import STATELESS, Row

ORIGIN, SNAPSHOT, THIN, RAID = "snapshot-origin", "snapshot", "thin", "raid"


def size(rows: Sequence[Row]) -> int:
    """Return how many sectors a device has by its table."""
    return sum(row.length for row in rows)


def origin(rows: Sequence[Row], real: str) -> list[Row]:
    """Return the table of an origin over its `-real` (`major:minor`); `rows` are what it was."""
    return [Row(0, size(rows), ORIGIN, real)]


def snapshot(rows: Sequence[Row], real: str, cow: str, chunk: int) -> list[Row]:
    """Return the table of a snapshot: persistent, with chunks of so many sectors."""
    return [Row(0, size(rows), SNAPSHOT, f"{real} {cow} P {chunk}")]


def thin(rows: Sequence[Row], pool: str, number: int) -> list[Row]:
    """Return the table of a thin snapshot of what has `rows`: that number in the pool (`major:minor`).

    What was never written to a volume with an external origin is read from that, in its snapshot as well.
    """
    external = rows[0].arguments.split()[2:]
    return [Row(0, size(rows), THIN, " ".join([pool, str(number), *external]))]


def health(kind: str, status: str) -> str:
    """Return what the status of a RAID says of its disks, as `AD`; nothing of other targets.

    One that is not in sync yet (`a`) may be so at any moment, and counts as one that is.
    """
    words = status.split()
    return words[2].upper() if kind == RAID and len(words) > 2 else ""


def must_wait(rows: Sequence[Row]) -> bool:
    """Return whether `-real` may begin to work only when the origin is suspended: two must not work at once."""
    return any(row.kind not in STATELESS for row in rows)


def real(rows: Sequence[Row]) -> list[Row]:
    """Return the table of `-real`: what the origin was, without what a RAID was to do at its beginning."""
    return [Row(row.start, row.length, row.kind, _raid(row.arguments)) if row.kind == RAID else row for row in rows]


def _raid(arguments: str) -> str:
    """Return a RAID's arguments without `nosync` and `rebuild N`, as LVM does: its superblocks know by now."""
    kind, count, *words = arguments.split()
    given, rest = words[: int(count)], words[int(count) :]
    kept = []
    while given:
        word = given.pop(0)
        if word == "rebuild":
            given.pop(0)
        elif word != "nosync":
            kept.append(word)
    return " ".join([kind, str(len(kept)), *kept, *rest])
