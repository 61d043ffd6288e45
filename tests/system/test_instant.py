"""One instant over many volumes: writers on each of them, and a judge that sees a gap of milliseconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.live import assert_nothing_left, tidy
from tests.system.program import borg_lvm
from tests.system.writers import Writer, gap, writing

pytestmark = pytest.mark.limit(1800)  # seconds; a fraction of it on an idle machine
RUNS = int(os.environ.get("BORG_LVM_RUNS", "2"))
"""How many runs each proof takes; `make soak` takes 40."""
HOW = ("in-place synced", "append synced", "in-place buffered", "append buffered")
CONTROLS = 2


def linear(rig: Rig) -> list[Volume]:
    """Return four volumes in two groups; all can be prepared."""
    groups = [rig.group(), rig.group()]
    return [
        rig.volume(
            f"v{number}", fs="xfs" if number == 2 else "ext4", at=rig.path(f"v{number}"), group=groups[number % 2]
        )
        for number, name in enumerate("abcd")
    ]


def mixed(rig: Rig) -> list[Volume]:
    """Return volumes of all kinds, most of which cannot be prepared."""
    return [
        rig.volume("thick", fs="ext4", at=rig.path("thick")),
        rig.volume("thin", kind="thin", fs="xfs", at=rig.path("thin")),
        rig.volume("raid", kind="raid1", fs="ext4", at=rig.path("raid")),
        rig.volume("safe", luks_version=1, fs="ext4", at=rig.path("safe")),
    ]


def laid_out(rig: Rig, volumes: Sequence[Volume]) -> list[Writer]:
    """Return a writer for each way of writing on each volume."""
    found = []
    for volume in volumes:
        assert volume.at
        for how in HOW:
            name = how.replace(" ", "-")
            found.append(Writer(how, volume.at / name, rig.path(f"{volume.name}-{name}")))
    return found


def copied(rig: Rig, writers: Sequence[Writer], paths: Sequence[Path], number: int, *options: str) -> list[Path]:
    """Back the writers' files up by the simplest program there is."""
    target = rig.path(f"copies{number}")
    target.mkdir()
    names = [target / writer.diary.name for writer in writers]
    script = "\n".join(f"cat {writer.file} >{name}" for writer, name in zip(writers, names, strict=True))
    words = [word for path in paths for word in ("--path", path)]
    borg_lvm("run", *options, *words, "--", "sh", "-ec", script)
    return names


def gaps(rig: Rig, volumes: Sequence[Volume], runs: int, *options: str) -> list[float]:
    """Run so often, with another volume first each time; return by how much each run misses one instant."""
    writers = laid_out(rig, volumes)
    paths = [volume.at for volume in volumes if volume.at]
    with writing(writers):
        copies = [
            copied(rig, writers, paths[turn % len(paths) :] + paths[: turn % len(paths)], turn, *options)
            for turn in range(runs)
        ]
    shown = [[writer.shown(copy) for writer, copy in zip(writers, names, strict=True)] for names in copies]
    return [gap(writers, numbers) for numbers in shown]


@pytest.mark.each_kernel
@pytest.mark.parametrize("volumes", [linear, mixed])
def test_all_snapshots_show_one_instant(rig: Rig, volumes: object) -> None:
    assert callable(volumes)
    with tidy():
        found = gaps(rig, volumes(rig), RUNS)
        print("gaps, in seconds:", *(f"{one:.3f}" for one in found))
        assert [one for one in found if one > 0] == []
        assert_nothing_left(rig)


def test_the_judge_sees_one_snapshot_after_the_other(rig: Rig) -> None:
    with tidy():
        found = gaps(rig, linear(rig), CONTROLS, "--consistency", "per-volume")
        print("gaps, in seconds:", *(f"{one:.3f}" for one in found))
        assert all(one > 0 for one in found)
        assert_nothing_left(rig)
