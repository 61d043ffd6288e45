"""What applications change in a plan: the volumes of their logs are held last."""

from __future__ import annotations

import pytest

from borg_lvm.applications import DataPath, Probe
from borg_lvm.command import Invocation, Reading
from borg_lvm.coverage import Asked
from borg_lvm.devices import mounts
from borg_lvm.history import History
from borg_lvm.plan import Plan
from borg_lvm.survey import Survey
from tests.unit.data.machine import Machine

PATHS = (DataPath("/b/data", "data"), DataPath("/a/log", "redo log", log=True))
SERVER = Asked("db", "mariadb", "lock", "locks", "whole", Probe("10", PATHS), ("/b/data", "/a/log"), still=False)


def surveyed(monkeypatch: pytest.MonkeyPatch) -> Survey:
    """Return the survey of a machine with two volumes, of which the one of data comes first."""
    machine = Machine()
    machine.mount("/a", "vg0/a")
    machine.mount("/b", "vg1/b")
    resolved = machine.resolve("/a", "/b")

    def planned(logs: frozenset[str]) -> Plan:
        return machine.plan(resolved, logs=logs, consistency="instant")

    monkeypatch.setattr(mounts, "read", lambda: machine.mounts)
    made = planned(frozenset())
    assert made.copies[0].origin.name == "a"
    return Survey(
        made,
        planned,
        (),
        (),
        resolved,
        frozenset(),
        Invocation(("true",), {}, "/"),
        Reading("true", ""),
        History(),
    )


def test_the_volume_of_logs_is_held_last(monkeypatch: pytest.MonkeyPatch) -> None:
    found = surveyed(monkeypatch).with_applications([SERVER], ["left out"])
    assert [copy.origin.name for copy in found.plan.copies] == ["b", "a"]
    assert [one.name for one in found.plan.applications] == ["db"]
    assert found.plan.notes == ("left out",)
