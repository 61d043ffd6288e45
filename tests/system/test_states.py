"""Can this volume have a snapshot now? Whatever state it is in, plan, check and run say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.rig import Rig
from tests.system.support.runs.live import assert_nothing_left, ledgers, tidy
from tests.system.support.runs.program import borg_lvm
from tests.system.support.states.building import FILE, State, configured
from tests.system.support.states.states import SETTINGS, STATES
from tests.system.test_check import told

pytestmark = pytest.mark.limit(300)
FEW = frozenset(
    "external-journal integrity external-origin missing-disk closed-disk exported "
    "above-threshold namesake reports volume-list vdo".split()
)
"""Those that `make rest` tries: each kind of reason once. The soak tries all."""


@pytest.fixture(autouse=True)
def usual_configuration(rig: Rig) -> Iterator[None]:
    """Have LVM's configuration be what it was, before the rig takes its volumes away."""
    yield
    configured("")


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(state, id=state.name, marks=[] if state.name in FEW else pytest.mark.soak)
        for state in (*SETTINGS, *STATES)
    ],
)
def test_plan_check_and_run_agree(rig: Rig, state: State) -> None:
    with tidy():
        with ExitStack() as stack:
            at = state.build(rig, stack)
            stack.callback(configured, "")
            file = at / FILE
            if not file.exists() and "ro" not in _options(str(at)):
                file.write_text("old")
            path, command = ["--path", str(at)], ["--", "sh", "-c", f"ls {at}; cat {file} || true"]
            plan = borg_lvm("plan", *path, *command, status=None)
            check = borg_lvm("check", "--json", *path, *command, status=None)
            run = borg_lvm("run", *path, *command, status=None)
            configured("")
            assert plan.status == run.status == (state.status if state.words else 0), f"{plan}\n{run}"
            found = json.loads(check.out)
            assert (check.status, found["works"]) == ((69, False) if state.words else (0, True)), check
            for word in state.words:
                assert word in plan.err, plan
                assert word in run.err, run
                assert word in told(found, "error"), check
            assert bool(re.search(r"(?m)^borg-lvm: snapshot of ", run.err)) is not bool(state.words), run
            if not state.words:
                assert run.out.endswith("old" if file.exists() else "lost+found\n"), run
        assert ledgers() == {}
        assert_nothing_left(rig)


def _options(at: str) -> list[str]:
    with open("/proc/self/mounts", encoding="utf-8") as table:
        return next(line.split()[3].split(",") for line in table if line.split()[1] == at)
