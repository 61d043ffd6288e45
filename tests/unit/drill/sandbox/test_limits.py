"""Limits of a sandbox: how much, and where there are none; what a real control group does is in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.drill.judging import Judgement
from borg_lvm.drill.sandbox import limits
from borg_lvm.drill.sandbox.limits import SandboxGroup
from borg_lvm.reporting.drills.result import SandboxLimits
from borg_lvm.state.ledger import LedgerEntry

GIB = 1 << 30


@pytest.mark.parametrize(
    ("maxima", "memory"),
    [([8 * GIB], 4 * GIB), ([8 * GIB, 64 * GIB], 4 * GIB), ([8 * GIB, 4 * GIB, 2 * GIB], 7 * GIB // 4)],
)
def test_half_of_the_machines_memory_and_less_than_our_own(maxima: list[int], memory: int) -> None:
    assert limits.share_of_memory(maxima) == memory


@pytest.mark.parametrize(("count", "processors"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_half_of_the_processors(count: int, processors: int) -> None:
    assert limits.share_of_processors(count) == processors


def test_all_of_the_sandbox_is_ended_at_once_and_nothing_is_swapped() -> None:
    assert limits.settings(GIB, 2) == {
        "memory.max": "1073741824",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "200000 100000",
        "pids.max": "4096",
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a directory that looks like a tree of control groups, with no processes in it."""
    for name, text in {"controllers": "cpu memory", "subtree_control": "", "procs": ""}.items():
        (tmp_path / f"cgroup.{name}").write_text(text)
    monkeypatch.setattr(limits, "ROOTS", (str(tmp_path),))
    return tmp_path


def test_why_there_are_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "cgroup.controllers").write_text("cpu pids")
    assert "has no memory controller" in limits.unlimited()
    monkeypatch.setattr(limits, "ROOTS", (str(home / "none"),))
    assert limits.unlimited() == "cgroup v2 is not mounted"


def test_a_judge_that_needs_too_much_memory_is_not_judged() -> None:
    """And a server that died of it is no bad archive, if its judge has lived to say so."""
    judgement = Judgement(wrong=["the server ended with status -9"], done=True)
    judgement.starved(4 * GIB)
    found = judgement.closed(60.0, in_time=True)
    assert (found.verdict, found.wrong) == ("not judged", [])
    assert found.why == "it was ended, for it took more than the 4.0 GiB of memory that a drill gets here"
    before = Judgement(wrong=["page 17 is broken"])
    before.starved(4 * GIB)
    assert before.closed(60.0, in_time=True).verdict == "bad"


def test_where_there_is_no_group_nothing_is_entered_or_counted() -> None:
    group = SandboxGroup(SandboxLimits(why="a test"))
    group.enter()
    assert group.kills() == 0


def test_only_a_group_of_this_very_drill_is_removed(tmp_path: Path) -> None:
    other = tmp_path / "user.slice"
    other.mkdir()
    entry = LedgerEntry(
        "20261101T000000-aaaaaa", None, "borg-lvm drill", ({"step": "group", "directory": str(other), "on": []},)
    )
    (said,) = limits.left(entry)
    assert "which is none" in said
    assert other.exists()
