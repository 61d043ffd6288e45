"""The readers of command lines beside the real programs: a hundred lines here, twenty thousand in the soak."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from tests.fuzz import judging, parsers

pytestmark = pytest.mark.process
CASES = 20_000 if "BORG_LVM_RUNS" in os.environ else 100
SEED = int(os.environ.get("BORG_LVM_SEED", "1"))


@pytest.mark.parametrize(
    "name", ["rsync", "tar", "wrappers", pytest.param("restic", marks=pytest.mark.needs("restic"))]
)
def test_we_read_what_the_program_reads(name: str) -> None:
    figures, told = importlib.import_module(f"tests.fuzz.{name}").told(CASES, SEED)
    assert figures.missed == 0, told
    assert figures.faults == ()
    assert figures.accepted > CASES / 2
    assert figures.refused < max(3, figures.accepted / 100), told


def test_broken_input_ends_in_our_own_errors() -> None:
    assert parsers.run(100_000 if "BORG_LVM_RUNS" in os.environ else 400, SEED).faults == ()


def test_who_has_no_end_has_printed_nothing_and_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "PATIENCE", 0.5)
    lines = [["echo", "a b"], ["sh", "-c", "sleep 5; echo late"], ["sh", "-c", "echo wrong >&2; exit 3"]]
    env = {"PATH": os.environ["PATH"]}
    assert judging.call_all(lines, str(tmp_path), env) == [("a b\n", ""), ("", ""), ("", "wrong\n")]


def test_what_a_program_leaves_behind_is_waited_for(tmp_path: Path) -> None:
    left = ["sh", "-c", "(sleep 0.5; echo late) & echo early"]
    assert judging.call_all([left], str(tmp_path), {"PATH": os.environ["PATH"]}) == [("early\nlate\n", "")]
