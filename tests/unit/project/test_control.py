"""The tables of seeded faults are true: every anchor exists, and what is to catch a fault runs where they say."""

from __future__ import annotations

import ast
import os

import pytest

from tests.control.faults import CHECKOUT, FAULTS, AnchorError, Fault
from tests.control.moved import MOVED
from tests.control.seeded import reason, seed
from tests.lab.suite.choose import chosen
from tests.lab.suite.collect import collected
from tests.system.promises import PROMISES

EVERY = (*FAULTS, *MOVED)
UNIT = [test for fault in EVERY for test in fault.tests if test.startswith("unit/")]


@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.name)
def test_it_can_be_seeded_and_breaks_a_promise(fault: Fault) -> None:
    before, after = (CHECKOUT / fault.file).read_text(), fault.seeded()
    assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(before))
    assert fault.promise in {promise.words for promise in PROMISES} or fault in MOVED
    assert 0 < len(fault.tests) < 4


def test_names_are_unique() -> None:
    assert len({fault.name for fault in EVERY}) == len(EVERY)


@pytest.mark.process
def test_what_is_left_of_what_was_moved_runs_in_test_full() -> None:
    full = chosen("full", ["uml-6.1", "uml-6.12", "6.12"], collected([]))
    for fault in MOVED:
        names = {item.name for kernel, items in full.items() if kernel == (fault.kernel or kernel) for item in items}
        for test in fault.tests:
            assert test.startswith("unit/") or any(name.startswith(f"tests/{test}") for name in names), (fault, test)


@pytest.mark.parametrize(("find", "count"), [("no such words", 0), ("def ", "[2-9]|1.")])
def test_an_anchor_that_is_not_there_once_is_an_error_that_says_so(find: str, count: str) -> None:
    fault = Fault("odd", "", "borg_lvm/view/command.py", find, "", ())
    with pytest.raises(
        AnchorError, match=rf"fault odd: borg_lvm/view/command.py has '{find}' ({count}) times, not once"
    ):
        fault.seeded()


@pytest.mark.parametrize("where", ["here", "", "list"])
def test_nothing_is_seeded_outside_of_a_guest(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "BORG_LVM_LAB", where)
    with pytest.raises(SystemExit, match="in a guest only"):
        seed(FAULTS[0])


def test_which_failure_is_a_judgement() -> None:
    assert reason(AssertionError("assert 0 == 74")) == {"right": True, "reason": "AssertionError: assert 0 == 74"}
    assert not reason(AssertionError("Said(status=70, err='NameError: name …')"))["right"]
    assert not reason(ImportError("no module"))["right"]


def test_which_unit_tests_are_named() -> None:
    for test in UNIT:
        file, *names = test.split("::")
        tree = ast.parse((CHECKOUT / "tests" / file).read_text())
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert [name for name in names if name.partition("[")[0] not in defined] == []
