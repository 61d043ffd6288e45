"""What is reported of a run in its rarer ends: read again, cut short, lost and not missed, invalid: it was live."""

from __future__ import annotations

from dataclasses import replace

import pytest

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.errors import SnapshotLostError
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.planning.space.growth_policy import FillHistory, Sample, SnapshotStatistics
from borg_lvm.planning.view_layout import LiveBelow
from borg_lvm.reporting import proof
from borg_lvm.reporting.outcome import Leftovers, Outcome, summary
from borg_lvm.reporting.plan_text import as_data, table
from borg_lvm.reporting.proof import Difference, Proof
from tests.unit.data.machine import GIB, MIB
from tests.unit.data.runs import LOST, two

FILLS = (Fill(16 * MIB, 2 * GIB), Fill(0, 0))
PROVEN = Proof("all", "proven", 1, 61.0, ("/r::a",), 1, 1, GIB)


def lines(outcome: Outcome) -> list[str]:
    return [line for line, _ in summary(outcome)]


def refused(outcome: Outcome) -> SnapshotLostError:
    with pytest.raises(SnapshotLostError, match="BACKUP INVALID") as caught:
        outcome.judge()
    return caught.value


def test_leftovers_of_two_steps_keep_which_of_them_do_harm() -> None:
    first, second = Leftovers(["a mount"]), Leftovers(["a device"])
    second.harms("vg0/home is suspended")
    first.add(second)
    assert first == ["a mount", "a device", "vg0/home is suspended"]
    assert first.harm == ["vg0/home is suspended"]


def test_a_snapshot_that_was_lost_and_not_missed_is_warned_of() -> None:
    outcome = Outcome(two(), (), 0, 5.0, (LOST, Fill(0, 0)), marked=("borg's archive a is sound",), sound=True)
    assert outcome.judge() == 0
    (warning,) = outcome.warnings()
    assert warning.splitlines() == [
        "a snapshot was lost when nobody read it any more: the backup is sound",
        f"the snapshot of vg0/home was lost: {LOST.problem}",
        "borg's archive a is sound",
    ]


def test_a_proof_that_ran_into_its_limit_is_warned_of_beside_it() -> None:
    cut = replace(PROVEN, state="limit")
    outcome = Outcome(two(), (), 0, 5.0, (LOST, Fill(0, 0)), sound=True, proof=cut)
    first, second = outcome.warnings()
    assert first.startswith("a snapshot was lost when nobody read it any more")
    assert "has reached its time limit" in second


def test_only_what_was_declared_live_is_in_the_last_lines() -> None:
    paths = (LiveBelow("/home/cache", "declared live"), LiveBelow("/home/sock", "a socket's directory"))
    said = lines(Outcome(replace(two(), live_paths=paths), (), 0, 5.0, FILLS))
    assert "not frozen, as declared: /home/cache" in said
    assert not [line for line in said if "/home/sock" in line]


@pytest.mark.parametrize(
    ("read", "line"),
    [
        (
            replace(PROVEN, live=1),
            "read back: 1 entry and the content of 1 file (1.0 GiB) of /r::a are as frozen (61.0 s); 1 was read live "
            "and not compared",
        ),
        (
            Proof("list", "limit", 1, 2.0, (), 1500, live=1200),
            "read back until the time limit: 1,500 entries are as frozen (2.0 s); the rest was not compared; "
            "1,200 were read live and not compared",
        ),
        (
            Proof("list", "differs", 1, 2.0, ("/r::a", "/r::b"), 7, count=2),
            "read back: 2 differences in 7 entries of /r::a, /r::b (2.0 s)",
        ),
        (
            Proof("all", "not proven", why="borg\x1b failed", unchecked=("of hard links nothing was compared",)),
            "not read back: borg\\x1b failed; of hard links nothing was compared",
        ),
    ],
    ids=["proven", "limit", "differs", "not proven"],
)
def test_what_was_read_back_is_one_line(read: Proof, line: str) -> None:
    assert proof.line(read) == line
    assert line in lines(Outcome(two(), (), 0, 5.0, FILLS, proof=read))


def test_differences_that_are_all_named_are_not_counted_again() -> None:
    wrong = tuple(Difference(archive, "/srv/a", "size") for archive in ("r::a", "r::b", "r::a"))
    read = replace(PROVEN, state="differs", differences=wrong, count=3)
    assert refused(Outcome(two(), (), 0, 5.0, FILLS, proof=read)).details == (
        "/srv/a: size (r::a)",
        "/srv/a: size (r::b)",
        "/srv/a: size (r::a)",
    )
    assert read.wrong == ("r::a", "r::b")


def test_a_plan_has_what_will_be_read_back() -> None:
    planned = PlannedProof("sample", 200, 4 * GIB, 3600, ("/srv/db\x1b",), 1, "borg export-tar")
    said = list(table(replace(two(), proof=planned)))
    at = said.index("Read back when the command has ended:")
    assert said[at + 1 : at + 4] == [
        "  names and attributes; the content of 200 random files (4.0 GiB at most) and of all files below /srv/db\\x1b",
        "  by borg export-tar",
        "  takes as long as listing the archive, reading these files and a walk over the sources, 3600 s at most",
    ]
    assert "Read back when the command has ended:" not in list(table(two()))


def test_a_program_reads_what_will_be_read_back() -> None:
    planned = PlannedProof("sample", 200, 4 * GIB, 3600, ("/srv/db",), 1, "")
    assert as_data(replace(two(), proof=planned))["proof"] == {
        "mode": "sample",
        "files": 200,
        "bytes": 4 * GIB,
        "time_limit": 3600,
        "first": ["/srv/db"],
        "how": None,
    }
    assert as_data(two())["proof"] is None


def test_a_certificate_without_a_whole_proof_has_none() -> None:
    whole = proof.as_data(PROVEN)
    for missing in ("differences", "archives", "why"):
        with pytest.raises(ValueError, match="not a proof"):
            proof.from_data({key: value for key, value in whole.items() if key != missing})
    with pytest.raises(ValueError, match="not a proof"):
        proof.from_data({**whole, "unchecked": 3})


def test_a_source_that_appeared_was_read_live() -> None:
    error = refused(Outcome(two(), (), 0, 5.0, FILLS, appeared=("/home/new",)))
    assert error.details == ("/home/new did not exist when the run began, and appeared meanwhile: it was live",)
    assert error.remedy.startswith("run it again")


def test_a_lost_snapshot_outweighs_a_path_that_vanished_and_that_one_that_appeared() -> None:
    outcome = Outcome(two(), (), 0, 5.0, FILLS, vanished=("/home",), appeared=("/home/new",))
    assert refused(outcome).details[0].startswith("/home was replaced or moved on the live system")
    assert refused(outcome).remedy == "name the directory above as a source"
    assert "was lost" in refused(replace(outcome, fills=(LOST, Fill(0, 0)))).details[0]


def test_a_view_that_somebody_else_has_unmounted_is_not_one_that_moved() -> None:
    error = refused(Outcome(two(), (), 0, 5.0, FILLS, vanished=("/run/borg-lvm/view/night/srv",)))
    assert error.details == (
        "/run/borg-lvm/view/night/srv was unmounted by somebody else while the view was mounted: later reads found "
        "nothing there",
    )
    assert error.remedy == "find out who did"


def test_a_lost_thin_snapshot_leads_to_its_pool() -> None:
    outcome = Outcome(two(), (), 0, 5.0, (FILLS[0], Fill(0, 0, "the kernel calls it 'Fail' (thin)")))
    assert refused(outcome).remedy == "look at the thin pool: lvs -a vg1"


def test_the_remedy_of_one_that_was_not_to_grow_begins_with_growing() -> None:
    full = FillHistory.begun(Sample(0, 0, 2 * GIB)).then(Sample(60, 2 * GIB - MIB, 2 * GIB))
    stuck = SnapshotStatistics(full, stuck="growing is switched off (snapshot.grow)")
    outcome = Outcome(two(), (), 0, 5.0, (LOST, Fill(0, 0)), stories=(stuck, SnapshotStatistics()))
    assert refused(outcome).remedy.startswith("let it grow (snapshot.grow), or give the snapshot more room")
