"""What is refused before the machine is looked at, and what applications change in a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from borg_lvm.config.schema import Settings
from borg_lvm.errors import SourceError
from borg_lvm.machine import mounts
from borg_lvm.machine.lvm import Inventory
from borg_lvm.planning.application_data import ProbedApplication
from borg_lvm.planning.plan import Plan
from borg_lvm.plugins.application import DataPath, Probe
from borg_lvm.plugins.backup_command import Invocation, Reading
from borg_lvm.session.survey import Question, Survey, survey
from borg_lvm.state.history import History
from tests.unit.data.machine import Machine

PATHS = (DataPath("/b/data", "data"), DataPath("/a/log", "redo log", log=True))
SERVER = ProbedApplication(
    "db", "mariadb", "lock", "locks", "whole", Probe("10", PATHS), ("/b/data", "/a/log"), still=False
)


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
    assert made.snapshots[0].origin.name == "a"
    return Survey(
        made,
        planned,
        Inventory(),
        (),
        resolved,
        frozenset(),
        Invocation(("true",), {}, "/"),
        Reading("true", ""),
        History(),
    )


def test_the_volume_of_logs_is_held_last(monkeypatch: pytest.MonkeyPatch) -> None:
    found = surveyed(monkeypatch).with_applications([SERVER], ["left out"])
    assert [snapshot.origin.name for snapshot in found.plan.snapshots] == ["b", "a"]
    assert [one.name for one in found.plan.applications] == ["db"]
    assert found.plan.notes == ("left out",)


@pytest.mark.parametrize(("path", "told"), [("/a\0b", "zero byte"), ("/a\ud800b", "UTF-8")])
@pytest.mark.parametrize("place", ["path", "live", "list", "database"])
def test_a_name_that_no_file_can_have_is_refused(
    path: str, told: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No system call takes it, wherever it comes from; a traceback would follow."""
    monkeypatch.setattr("borg_lvm.linux.namespaces.refuse_chroot", lambda: None)
    question = Question(("true",), "/", (path,) if place == "path" else ("/etc",))
    if place == "list":
        (tmp_path / "list").write_bytes(b"/a\n\\000/b")
        question = Question(("tar", "-cf", "-", "-T", str(tmp_path / "list")), "/")
        told = "zero byte"
    if place == "database":
        said = {"repositories": [{"path": "/r"}], "source_directories": ["/a"], "sqlite_databases": [{"path": "/b\0"}]}
        (tmp_path / "config.yaml").write_text(json.dumps(said))
        question = Question(("borgmatic", "-c", str(tmp_path / "config.yaml"), "create"), "/")
        told = "zero byte"
    with pytest.raises(SourceError, match="no file can have such a name") as caught:
        survey(question, Settings(hooks=("tar", "borgmatic"), live=(path,) if place == "live" else ()))
    assert told in caught.value.details[0]
