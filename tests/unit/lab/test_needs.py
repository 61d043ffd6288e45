"""The table of what tests need: where something is missing, a test is skipped by name and reason."""

from __future__ import annotations

import itertools

import pytest

from tests.lab import needing, needs, packages
from tests.lab.needing import left_out
from tests.lab.needs import NEEDS, STAGES, TABLE, Need, missing, of_stage


def test_the_table_is_sound() -> None:
    assert len(NEEDS) == len(TABLE)
    assert {need.stage for need in TABLE} <= set(STAGES)
    assert all(need.packages and need.purpose for need in TABLE)


def test_each_stage_has_all_of_those_before_it() -> None:
    stages = [set(of_stage(stage)) for stage in STAGES]
    assert all(before <= after for before, after in itertools.pairwise(stages))
    assert "postgresql" not in {need.name for need in of_stage("demo")}


def test_what_is_there_is_not_missing() -> None:
    assert Need("sh", "demo", "-", "sh", ("dash",)).present
    assert Need("passwd", "demo", "-", "/etc/pass*", ("passwd",)).present
    assert not Need("nothing", "demo", "-", "/etc/no-such-*", ("nothing",)).present


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Need("frobnicator", "demo", "-", "frobnicate-me", ("frob", "frob-ng"))
    monkeypatch.setitem(needs.NEEDS, "frobnicator", absent)
    assert missing(["frobnicator"]) == (
        "needs frobnicator: no frobnicate-me on this machine (Debian package frob or frob-ng)"
    )
    with pytest.raises(KeyError):
        missing(["misspelt"])


def test_the_first_package_that_is_offered_is_taken() -> None:
    need = Need("server", "demo", "-", "server", ("server-17", "server-15"))
    assert packages.choice(need, {"server-15", "other"}) == "server-15"
    assert packages.choice(need, {"server-15", "server-17"}) == "server-17"
    assert packages.choice(need, {"other"}) == ""


POLICY = """server-15:
  Installed: (none)
  Candidate: 15.18-0
  Version table:
     15.18-0 500
server-17:
  Installed: (none)
  Candidate: (none)
  Version table:
"""


def test_what_apt_offers() -> None:
    assert packages.candidates(POLICY) == {"server-15"}


def test_files_of_what_is_skipped_are_written_down(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make rest` runs these again, when it has installed the programs, and no others."""
    item = request.node
    assert left_out([item], request.config.rootpath) == ""
    item.add_marker(pytest.mark.needs("nothing-like-it"))
    monkeypatch.setattr(needing, "missing", lambda names: "not here" if "nothing-like-it" in names else "")
    assert left_out([item, item], request.config.rootpath) == "tests/unit/lab/test_needs.py\n"
