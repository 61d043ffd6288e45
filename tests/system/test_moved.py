"""Files that are moved between three volumes while they are backed up: none may be missing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import permutations

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.live import Programs, assert_nothing_left, borg_lvm_argv, tidy
from tests.system.support.runs.program import run
from tests.system.support.writers.movers import Mover, Verdict, judge, move, moving

RUNS = min(int(os.environ.get("BORG_LVM_RUNS", "2")), 10)
COUNT = 30  # files of each mover; all of a mover's are on their way in the same direction
PAUSE = 1.0  # seconds that are put before each snapshot of the control, which on a fast machine might lose nothing
pytestmark = pytest.mark.limit(900 + 120 * RUNS)  # seconds; a fraction of it on an idle machine


def movers_of(rig: Rig) -> list[Mover]:
    """Return a mover from each volume to each other: whichever is taken first, some go there from a later one."""
    points = [rig.path(name) for name in ("v1", "v2", "v3")]
    for point, fs in zip(points, ("ext4", "xfs", "ext4"), strict=True):
        rig.volume(point.name, fs=fs, at=point, group=rig.group())
    return [Mover(f"{a.name}-{b.name}", a, b, COUNT) for a, b in permutations(points, 2)]


def verdicts(
    rig: Rig, movers: Sequence[Mover], runs: int, *options: str, programs: Programs | None = None
) -> list[Verdict]:
    borg = Borg.made(rig.path("borg"))
    sources = sorted({str(mover.here) for mover in movers})
    with moving(movers):
        for number in range(runs):
            create = ["borg", "create", borg.archive(str(number)), *sources]
            words = ["run", *options, "--snapshot-size", "100%ORIGIN", "--", *create]
            run(*borg_lvm_argv(*words, programs=programs), env=borg.env)
    found = [judge(movers, borg.contents(str(number))) for number in range(runs)]
    print(*found, sep="; ")
    assert all(verdict.changed == () for verdict in found)
    return found


def test_a_moved_file_is_never_missing(rig: Rig) -> None:
    with tidy():
        movers = movers_of(rig)
        for verdict in verdicts(rig, movers, RUNS):
            assert verdict.lost == ()
            assert len(verdict.twice) <= len(movers)  # each has at most one in both places
        assert_nothing_left(rig)


@pytest.mark.soak
def test_the_judge_misses_files_that_went_from_a_later_volume_to_an_earlier_one(rig: Rig) -> None:
    programs = Programs(rig.path("programs"))
    programs.delay("lvm", PAUSE)
    with tidy():
        found = verdicts(rig, movers_of(rig), RUNS, "--consistency", "per-volume", programs=programs)
        assert all(verdict.lost for verdict in found)
        assert_nothing_left(rig)


def test_the_judge_knows_what_a_move_explains(rig: Rig) -> None:
    here, there = rig.path("here"), rig.path("there")
    here.mkdir()
    there.mkdir()
    mover = Mover("one", here, there, 3)
    mover.lay_out()
    first, second, third = mover.files()
    move(f"{here}/{first}", f"{there}/{first}")
    (there / second).write_text((here / second).read_text())
    (there / f"{third}.part").write_text("half")
    contents = {str(path): path.read_text() for directory in (here, there) for path in directory.iterdir()}
    assert judge([mover], contents) == Verdict(lost=(), twice=(second,), changed=())
    contents[str(there / second)] += "more"
    del contents[str(here / third)]
    assert judge([mover], contents) == Verdict(lost=(third,), twice=(second,), changed=(second,))
