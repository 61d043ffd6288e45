"""Every promise of README and of the pages for beginners has a proof that exists: else `make test` would prove less."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.control.faults import FAULTS
from tests.lab.suite.choose import chosen
from tests.lab.suite.collect import collected
from tests.system.promises import PROMISES, Promise, marks, proves

ROOT = Path(__file__).parents[3]
PROOFS = sorted({proof for promise in PROMISES for proof in promise.proofs + promise.both})


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.words[:30])
def test_the_page_says_so(promise: Promise) -> None:
    assert " ".join(promise.words.split()) in " ".join((ROOT / promise.page).read_text().split())
    assert promise.proofs + promise.both


@pytest.mark.parametrize("proof", PROOFS)
def test_the_proof_exists(proof: str) -> None:
    file, *names = proof.split("::")
    tree = ast.parse((ROOT / "tests" / "system" / file).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    # The tests of a contract are written elsewhere.
    inherited = {"test_it_stands_still_and_goes_on", "test_it_is_resumed_without_us"}
    for name in names:
        wanted = name.partition("[")[0]
        assert any(known.startswith(wanted) for known in defined | inherited), f"no {wanted} in {file}"


def test_a_proof_gives_its_markers() -> None:
    assert marks("test_killed.py::test_killed[thin-in-prepare-helper]") == {"promise", "each_series"}
    assert marks("test_killed.py::test_killed[thick-held-watchdog]") == {"promise"}
    assert marks("test_lab.py::test_device_mapper_answers") == set()


@pytest.mark.process
def test_make_test_runs_every_proof_every_victim_of_the_kill_table_and_what_finds_the_seeded_faults() -> None:
    """One test, for collecting takes seconds."""
    items = collected([])
    run = [item.name.removeprefix("tests/system/") for item in chosen("test", ["uml-6.1"], items)["uml-6.1"]]
    assert [proof for proof in PROOFS if not any(proves(proof, name) for name in run)] == []
    killed = {re.split(r"[-\]]", name)[-2] for name in run if name.startswith("test_killed.py::test_killed[")}
    assert killed == {"us", "helper", "watchdog", "both", "all"}
    seeded = {test.removeprefix("system/") for fault in FAULTS for test in fault.tests if test.startswith("system/")}
    assert [
        test for test in seeded if not any(name.startswith((f"{test}[", f"{test}::")) or name == test for name in run)
    ] == []
