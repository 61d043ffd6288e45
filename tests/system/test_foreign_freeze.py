"""A file system that somebody else has frozen: freezes nest from Linux 6.8 on; before, the run leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.filesystems import thaw
from tests.rig.volumes import Volume
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm, run
from tests.system.support.writers.tables import assert_same, tables

pytestmark = [pytest.mark.limit(600), pytest.mark.each_series]
NESTS = not os.uname().release.startswith(("5.", "6.1."))


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
    """Beside others and alone; and above LUKS, where we freeze, which nobody can do twice."""
    one = rig.volume("one", fs="ext4", mib=48, at=rig.path("one"))
    two = rig.volume("two", fs="xfs", mib=64, at=rig.path("two"))
    paths = [word for volume in (one, two) for word in ("--path", str(volume.at))]
    config = ["--config", str(rig.path("config.yaml"))]
    rig.path("config.yaml").write_text("deadline: 60\n")
    safe = rig.volume("safe", luks_version=1, fs="ext4", mib=48, at=rig.path("safe"))
    before = tables()
    for foreign, sources in [(one, paths), (two, paths), (one, paths[:2]), (safe, ["--path", str(safe.at)])]:
        works = NESTS and foreign is not safe
        with tidy(), frozen(foreign) as at:
            said = borg_lvm("run", *config, *sources, "--", "true", status=0 if works else 71)
            if not works:
                assert f"{at}: somebody else has frozen it" in said.err
            assert_nothing_left(rig)
        assert_same(before, tables())
