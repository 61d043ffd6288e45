"""Who keeps which volume still, so that all snapshots of a run show one instant. Pure.

The argument: hold N-1 volumes still. Let LVM hold the remaining one while it makes that one's snapshot, *first*.
Then make the snapshots of the others and let them go. Nothing can have changed on the N-1 between their hold and
their snapshot, so all N snapshots show the instant at which the remaining one was held.

How a volume can be held depends on the kernel. From 6.8 on, a frozen file system's device can be suspended, so we
freeze the file system and LVM's own suspend nests in it. Before, that fails and leaves a mess; there a thick origin's
device can be suspended in advance instead. A thin origin must never be: its pool breaks; but a thick snapshot of it
works. A file system above LUKS is frozen on every kernel: LVM suspends the device below, which carries none. And a
volume that is itself the source, whatever is on it, is suspended on every kernel: it may have no file system at all.

The order matters to a program that writes by io_uring, as MariaDB does. A write that it has begun there ends, for the
kernel, when the thread that began it comes along again, and until then the file system cannot be held still. A thread
that waits for another volume, which stands still already, does not come along: then both wait for ever. Who writes data
may have to wait for the log, never the other way round; so logs are held still last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from borg_lvm.volumes import Found

Hold = Literal["lvm", "freeze", "suspend"]
PREPARABLE = frozenset(("linear", "striped"))
"""Layouts whose snapshots may be written down before the window and made known to the kernel in it."""
NESTING = (6, 8)
"""The first kernel release in which freezes nest (FREEZE_MAY_NEST)."""


@dataclass(frozen=True)
class Held:
    """A volume, who holds it (`lvm` or we), whether its snapshot is a thick one, and prepared before the window."""

    found: Found
    hold: Hold
    thick: bool
    prepared: bool = False


def nests(release: str) -> bool:
    """Tell from the kernel's release (`6.1.0-40-amd64`) whether freezes nest."""
    numbers = release.split("-", maxsplit=1)[0].split(".")
    return (int(numbers[0]), int(numbers[1])) >= NESTING


def matters(members: Sequence[Found], system: Sequence[Found]) -> bool:
    """Tell whether one instant of these volumes is had better, or only, where freezes nest."""
    several = len({one.volume.uuid for one in members}) > 1
    return several and (any(one.volume.is_thin for one in members) or len(system) > 1)


def one_by_one(members: Sequence[Found]) -> list[Held]:
    """Arrange volumes that each get an instant of their own, or a single volume."""
    return [Held(one, "freeze" if one.crypt else "lvm", not one.volume.is_thin) for one in members]


def prepared(held: Sequence[Held]) -> list[Held]:
    """Return these volumes with a note of whose snapshots are prepared before the window."""
    return [replace(one, prepared=one.thick and one.found.volume.layout <= PREPARABLE) for one in held]


def together(
    members: Sequence[Found], system: Sequence[Found], logs: Collection[str] = (), *, nesting: bool
) -> list[Held] | str:
    """Arrange volumes that get one instant, the one that LVM holds first; or say why it cannot be had.

    `system` are those members that hold what LVM and we need while the others stand still, `logs` those (`vg/lv`)
    that are to be held still last.
    """
    members = sorted(members, key=lambda one: one.volume.full_name in logs)
    plain = [one for one in members if not one.crypt]
    first = _first(plain, [one for one in system if not one.crypt], logs, nesting=nesting)
    held = [Held(first, "lvm", not first.volume.is_thin)] if first else []
    for one in members:
        if one is first:
            continue
        if one in system and not one.crypt and (one.raw or not nesting):
            return _two_systems([one, *([first] if first else [])])
        held.append(_held(one, nesting=nesting))
    return prepared(held)


def _first(plain: Sequence[Found], system: Sequence[Found], logs: Collection[str], *, nesting: bool) -> Found | None:
    """Choose the volume that LVM holds, and so last: one that we need, one that would be costly to hold, a log."""
    last = [one for one in plain if one.volume.full_name in logs]
    freezable = nesting and not any(one.raw for one in system)
    if system and not (last and freezable):
        return system[0]
    thin = [one for one in plain if one.volume.is_thin and (one.raw or not nesting)]
    choices = [*(one for one in thin if one in last), *thin, *last, *plain]
    return choices[0] if choices else None


def _held(one: Found, *, nesting: bool) -> Held:
    if one.crypt or (nesting and not one.raw):
        return Held(one, "freeze", not one.volume.is_thin)
    return Held(one, "suspend", thick=True)


def _two_systems(members: Sequence[Found]) -> str:
    names = " and ".join(sorted(one.volume.full_name for one in members))
    return (
        f"{names} both hold what LVM itself needs (programs, libraries, /etc), and one of them can only be held by "
        "suspending it, which would block reading too (so it is on kernels before 6.8, and for a volume that is itself "
        "the source); use a newer kernel, or back them up in runs of their own, or accept one snapshot after the other "
        "with --consistency per-volume"
    )
