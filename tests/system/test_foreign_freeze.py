"""A file system that somebody else has frozen: freezes nest, or the run is refused before anything is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_lvm import instant
from tests.rig import Rig
from tests.rig.filesystems import thaw
from tests.rig.volumes import Volume
from tests.system.live import Programs, assert_nothing_left, borg_lvm_argv, tidy
from tests.system.program import run

pytestmark = [pytest.mark.limit(600), pytest.mark.each_kernel]
CHANGING = ("lvcreate", "lvconvert", "lvchange")


@contextmanager
def frozen(volume: Volume) -> Iterator[Path]:
    """Freeze a file system by hand; it must have been left as it is in the end."""
    assert volume.at
    run("fsfreeze", "-f", volume.at)
    try:
        yield volume.at
    finally:
        times = thaw(volume.at)
    assert times == 1, "somebody has thawed what was not theirs, or frozen it once more"


def test_frozen_by_somebody_else(rig: Rig) -> None:
    """Held by LVM, held by us, alone. What LVM holds may be frozen where freezes nest; we can freeze nothing twice."""
    one = rig.volume("one", fs="ext4", mib=48, at=rig.path("one"))
    two = rig.volume("two", fs="xfs", mib=64, at=rig.path("two"))
    paths = [word for volume in (one, two) for word in ("--path", str(volume.at))]
    config = ["--config", str(rig.path("config.yaml"))]
    rig.path("config.yaml").write_text("deadline: 60\n")
    nests = instant.nests(os.uname().release)
    for number, (foreign, sources) in enumerate([(one, paths), (two, paths), (one, paths[:2])]):
        programs = Programs(rig.path(f"programs{number}"))
        for program in (*CHANGING, "lvm"):
            programs.watch(program)
        works = nests and foreign is one
        with tidy(), frozen(foreign) as at:
            argv = borg_lvm_argv("run", *config, *sources, "--", "true", programs=programs)
            said = run(*argv, status=0 if works else 71)
            called = programs.calls.read_text() if programs.calls.exists() else ""
            assert bool(called) == works
            if not works:
                assert f"{at}: somebody else has frozen it" in said.err
            assert_nothing_left(rig)
