"""What is reported of reading back: of a proof, of a difference, and of what was not compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.errors import DegradedError, SnapshotLostError
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.reporting import proof
from borg_lvm.reporting.outcome import Outcome, summary
from borg_lvm.reporting.proof import Difference, Proof
from tests.unit.data.machine import GIB, MIB
from tests.unit.data.runs import two

PROVEN = Proof("all", "proven", 1, 61.04, ("/r::a",), 41522, 200, 3 * GIB)
WRONG = Difference("/r::a", "/srv/b", "mode: the archive has 0600, the frozen view 0644")


def ended(found: Proof, status: int = 0) -> Outcome:
    return Outcome(two(), (), status, 5.0, (Fill(16 * MIB, 2 * GIB), Fill(0, 0)), proof=found)


def said(found: Proof) -> str:
    return next(line for line, fields in summary(ended(found)) if "proof" in fields)


def test_a_proof_is_a_success() -> None:
    outcome = ended(PROVEN)
    assert outcome.judge() == 0
    assert list(outcome.warnings()) == []
    assert said(PROVEN) == (
        "read back: 41,522 entries and the content of 200 files (3.0 GiB) of /r::a are as frozen (61.0 s)"
    )


def test_the_last_line_counts_what_the_mode_compares() -> None:
    names = Proof("list", "proven", 1, 2.0, ("/r::a",), 3)
    assert said(names) == "read back: 3 entries of /r::a are as frozen (2.0 s)"
    one = replace(PROVEN, state="differs", differences=(WRONG,), count=1, files=1, bytes=GIB)
    assert said(one).startswith("read back: 1 difference in 41,522 entries and the content of 1 file (1.0 GiB) of ")


def test_a_difference_makes_the_backup_invalid() -> None:
    found = replace(PROVEN, state="differs", differences=(WRONG,), count=3)
    with pytest.raises(SnapshotLostError, match="BACKUP INVALID") as told:
        ended(found).judge()
    assert told.value.details == (
        "/srv/b: mode: the archive has 0600, the frozen view 0644 (/r::a)",
        "and 2 more differences",
    )
    assert "check the repository" in told.value.remedy


def test_what_could_not_be_read_back_is_not_as_asked() -> None:
    found = Proof("all", "not proven", why="borg failed with status 2: Connection closed")
    with pytest.raises(DegradedError, match="could not be read back") as told:
        ended(found).judge()
    assert told.value.details == ("borg failed with status 2: Connection closed",)
    assert ended(found, status=1).judge() == 1


def test_what_was_not_compared_is_a_warning_which_is_shown_with_quiet_too() -> None:
    assert "has reached its time limit" in "".join(ended(replace(PROVEN, state="limit")).warnings())
    left = replace(PROVEN, unchecked=("of some hard links it was not compared whether they are copies: too many",))
    assert list(ended(left).warnings()) == [f"not all of what was saved is proven: {left.unchecked[0]}"]


@pytest.mark.parametrize("found", [PROVEN, replace(PROVEN, state="differs", differences=(WRONG,), count=1)])
def test_it_is_the_same_when_it_comes_out_of_the_certificate(found: Proof) -> None:
    assert replace(proof.from_data(proof.as_data(found)), seconds=found.seconds) == found


def test_the_plan_says_what_is_compared_and_how_long_that_takes() -> None:
    planned = PlannedProof("sample", 200, 4 * GIB, 3600, ("/srv/db",), 1, "borg export-tar")
    assert proof.planned_line(planned) == (
        "names and attributes; the content of 200 random files (4.0 GiB at most) and of all files below /srv/db; "
        "by borg export-tar; takes as long as listing the archive, reading these files and a walk over the sources, "
        "3600 s at most"
    )
    assert proof.planned_line(replace(planned, mode="all", how="")).startswith("names, attributes and contents; takes")
