"""Whether freezes nest is found out by a trial that touches nobody's volume; its answer is the kernel's own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from borg_lvm import instant
from tests.rig import Rig
from tests.system.program import run

TOLD = Path("/run/borg-lvm/.freezes-nest")
# A kernel whose number does not tell: as that of a distribution which has taken over the change of 6.8.
PLAN = """\
import sys
from borg_lvm import cli, instant
instant.NESTING = (99, 0)
sys.exit(cli.main(["plan", "--json", *sys.argv[1:], "--", "true"]))
"""


@pytest.mark.each_kernel
@pytest.mark.limit(300)
def test_the_trial_tells_what_the_release_tells(rig: Rig) -> None:
    volumes = [rig.volume(name, kind="thin", fs="ext4", mib=32, at=rig.path(name)) for name in ("one", "two")]
    paths = [word for volume in volumes for word in ("--path", str(volume.at))]
    nests = instant.nests(os.uname().release)
    for _ in range(2):  # the second time from what is written down
        planned = json.loads(run(sys.executable, "-c", PLAN, *paths).out)
        assert TOLD.read_text() == ("yes" if nests else "no")
        held = [(snapshot["held_by"], snapshot["kind"]) for snapshot in planned["snapshots"]]
        assert held == [("lvm", "thin"), ("freeze", "thin") if nests else ("suspend", "thick")]
        assert rig.leftovers() == []
    TOLD.unlink()


@pytest.mark.limit(300)
def test_no_trial_is_made_where_it_does_not_matter(rig: Rig) -> None:
    volume = rig.volume("one", kind="thin", fs="ext4", mib=32, at=rig.path("one"))
    run(sys.executable, "-c", PLAN, "--path", str(volume.at))
    assert not TOLD.exists()
