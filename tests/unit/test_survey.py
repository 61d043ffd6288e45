"""What applications change in a plan: the volumes of their logs are held still last, where that can be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from borg_lvm.applications import DataPath, Probe
from borg_lvm.command import Invocation, Reading
from borg_lvm.coverage import Asked
from borg_lvm.devices import mounts
from borg_lvm.errors import SourceError
from borg_lvm.history import History
from borg_lvm.plan import Plan
from borg_lvm.survey import Survey
from tests.unit.data.machine import Machine

PATHS = (DataPath("/a/data", "data"), DataPath("/b/log", "redo log", log=True))
SERVER = Asked("db", "mariadb", "lock", "locks", "whole", Probe("10", PATHS), ("/a/data", "/b/log"), still=False)


def surveyed(
    monkeypatch: pytest.MonkeyPatch, planned: Callable[[frozenset[str]], Plan] | None = None, system: str = ""
) -> Survey:
    """Return the survey of a machine with two volumes, of which the one of data comes first."""
    machine = Machine()
    machine.mount("/a", "vg0/a")
    machine.mount("/b", "vg1/b")
    resolved = machine.resolve("/a", "/b")
    wishes = {"consistency": "instant", "system_devices": frozenset([machine.on[system]] if system else [])}

    def usual(logs: frozenset[str]) -> Plan:
        return machine.plan(resolved, logs=logs, **wishes)

    monkeypatch.setattr(mounts, "read", lambda: machine.mounts)
    made = usual(frozenset())
    assert made.copies[0].origin.name == "a"
    return Survey(
        made,
        planned or usual,
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


def test_it_is_told_where_another_must_be_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    found = surveyed(monkeypatch, system="vg0/a").with_applications([SERVER], [])
    assert found.plan.copies[0].origin.name == "a"
    (note,) = found.plan.notes
    assert note.startswith("vg1/b: volumes of logs are best held still last, but vg0/a must be: a program ")


def test_a_run_that_was_possible_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(logs: frozenset[str]) -> Plan:
        raise SourceError("cannot freeze every source path", details=("volume group vg1 has 0 B free",))

    found = surveyed(monkeypatch, refused).with_applications([SERVER], [])
    assert found.plan.copies[0].origin.name == "a"
    assert "but volume group vg1 has 0 B free" in found.plan.notes[0]
