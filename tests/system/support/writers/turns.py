"""Volumes over two groups, and runs that take their snapshots in another order each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.rig import Rig
from tests.rig.filesystems import mounted
from tests.rig.volumes import Volume
from tests.system.support.runs.program import borg_lvm
from tests.system.support.writers.writers import Writer


def linear(rig: Rig, count: int) -> list[Volume]:
    """Return so many volumes; all can be prepared."""
    groups = [rig.group(), rig.group()]
    return [
        rig.volume(
            f"v{number}", fs="xfs" if number % 3 == 2 else "ext4", at=rig.path(f"v{number}"), group=groups[number % 2]
        )
        for number in range(count)
    ]


def mixed(rig: Rig) -> list[Volume]:
    """Return volumes of all kinds, most of which cannot be prepared."""
    here, there = rig.group(disks=2), rig.group(disks=2)
    return [
        rig.volume("thick", fs="ext4", at=rig.path("thick"), group=here),
        rig.volume("thin", kind="thin", fs="xfs", at=rig.path("thin"), group=there),
        rig.volume("raid", kind="raid1", fs="ext4", at=rig.path("raid"), group=here),
        rig.volume("safe", luks_version=1, fs="ext4", at=rig.path("safe"), group=there),
        rig.volume("lean", kind="thin", fs="ext4", at=rig.path("lean"), group=here),
    ]


def stateful(rig: Rig) -> list[Volume]:
    """Return volumes whose targets have a state of their own, and a plain one."""
    here, there = rig.group(disks=2), rig.group(disks=2)
    return [
        rig.volume("cached", kind="cachevol", fs="ext4", at=rig.path("cached"), group=here),
        rig.volume("slow", kind="writecache", fs="ext4", at=rig.path("slow"), group=there),
        rig.volume("twice", kind="mirror", fs="ext4", at=rig.path("twice"), group=here),
        rig.volume("plain", fs="xfs", at=rig.path("plain"), group=there),
    ]


def order(count: int, turn: int) -> list[int]:
    """Return the order of a turn: another one first each time, and in every second round all backwards.

    These are all the orders that three volumes have.
    """
    turned = [(turn + place) % count for place in range(count)]
    return turned[::-1] if turn // count % 2 else turned


@contextmanager
def in_turn(rig: Rig, volumes: Sequence[Volume], turn: int) -> Iterator[dict[str, Path]]:
    """Give a path for each volume's name; the run takes volumes in the order of their paths, so these say which."""
    with ExitStack() as stack:
        paths = {}
        for place, number in enumerate(order(len(volumes), turn)):
            volume = volumes[number]
            paths[volume.name] = stack.enter_context(mounted(str(volume.at), rig.path(f"{place}-of-{turn}"), "bind"))
        yield paths


def copied(rig: Rig, volumes: Sequence[Volume], writers: Sequence[Writer], turn: int, *options: str) -> list[list[int]]:
    """Back the writers' files up by the simplest program there is; return what each copy shows, for each writer."""
    copies, lines = [], []
    with in_turn(rig, volumes, turn) as paths, TemporaryDirectory(dir=rig.directory) as target:
        at = {volume.at: paths[volume.name] for volume in volumes}
        for number, writer in enumerate(writers):
            copies.append([Path(target) / f"{number}-{place}" for place in range(len(writer.files))])
            lines += [f"cat {at[f.parent]}/{f.name} >{c}" for f, c in zip(writer.files, copies[-1], strict=True)]
        words = [word for path in paths.values() for word in ("--path", path)]
        borg_lvm("run", *options, *words, "--", "sh", "-ec", "\n".join(lines))
        return [[writer.shown(copy) for copy in of_one] for writer, of_one in zip(writers, copies, strict=True)]
