"""Which run a drill is of: from the certificates of past runs."""

from __future__ import annotations

from typing import Any

import pytest

from borg_lvm.drill import choice
from borg_lvm.errors import UsageError
from borg_lvm.plugins.backup_command import Span


def certificate(run: str, result: str = "success", program: str = "borg", **applications: str) -> dict[str, Any]:
    found = [
        {
            "name": name,
            "plugin": "postgresql",
            "version": "15.4",
            "remark": None,
            "data": [{"path": path, "real": f"/real{path}", "what": "data"}] if path else [],
        }
        for name, path in applications.items()
    ]
    return {
        "run": run,
        "begin": 10.0,
        "end": 20.0,
        "result": result,
        "command": {"program": program},
        "archive": None,
        "instants": [{"time": 12.0}, {"time": 13.0}],
        "volumes": [{"volume": name, "filesystem": "ext4"} for name in ("vg0/srv", "vg0/home", "vg1/db")],
        "frozen": [{"path": "/srv", "volume": "vg0/srv", "because": "/srv"}],
        "applications": found,
    }


OLDER = certificate("20261101T000000-aaaaaa", db="/old", web="/www")
NEWER = certificate("20261102T000000-bbbbbb", db="/db", empty="")
OTHERS = [
    certificate("20261103T000000-cccccc", "failure", db="/no"),
    certificate("20261104T000000-dddddd", "success", "tar", db="/tar"),
]
ALL = [OLDER, NEWER, *OTHERS]


def test_the_newest_run_of_this_program_that_has_saved_something() -> None:
    chosen = choice.choose(ALL, "/usr/bin/borg", "", [])
    assert (chosen.run, chosen.span, chosen.instant) == (NEWER["run"], Span(10.0, 20.0), 13.0)
    assert chosen.groups == {"vg0", "vg1"}
    assert [one.name for one in chosen.applications] == ["db"]
    assert chosen.applications[0].data == (choice.DataFact("/db", "/real/db", "data"),)


def test_a_run_that_has_saved_no_application_is_none_of_it() -> None:
    """As that of another command of the same program, or one without a configuration."""
    assert choice.choose([*ALL, certificate("20261105T000000-eeeeee", home="")], "borg", "", []).run == NEWER["run"]


def test_only_a_run_that_has_saved_that_archive() -> None:
    """Of two copies of rsync's, the newest run of the program is the wrong one for the older copy."""
    first = {**certificate("20261105T000000-eeeeee", program="rsync", db="/db"), "archive": "/copy/a"}
    second = {**certificate("20261106T000000-ffffff", program="rsync", web="/www"), "archive": "/copy/b"}
    assert choice.choose([first, second], "rsync", "", [], "/copy/a").run == first["run"]
    for run, archive in (("", "/copy/c"), (str(second["run"]), "/copy/a")):
        with pytest.raises(UsageError, match=f"no run .* and saved {archive} is recorded"):
            choice.choose([first, second], "rsync", run, [], archive)


def test_a_run_by_the_beginning_of_its_id() -> None:
    assert choice.choose(ALL, "borg", "20261101", ["web"]).applications[0].data[0].path == "/www"
    assert choice.choose(ALL, "borg", str(OTHERS[0]["run"]), []).run == OTHERS[0]["run"]


@pytest.mark.parametrize(
    ("program", "run", "names", "words"),
    [
        ("restic", "", [], "no run of restic that ended well is recorded"),
        ("borg", "2025", [], "no run 2025 is recorded"),
        ("borg", "2026", [], "4 runs begin with '2026'"),
        ("borg", "", ["empty"], "has saved no data of empty that is known"),
        ("borg", "", ["web"], "has saved no data of web that is known"),
    ],
)
def test_what_cannot_be_chosen_is_refused(program: str, run: str, names: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choice.choose(ALL, program, run, names)


def test_what_is_restored_of_a_file_are_those_beside_it_too() -> None:
    facts = choice.choose(ALL, "borg", "", []).applications[0]
    selection = facts.selection(("-wal",))
    assert all(map(selection.wants, ("/db", "/db/x", "/real/db", "/real/db-wal", "/db-wal")))
    assert not any(map(selection.wants, ("/db2", "/db-journal", "/", "/real")))


def of_disks(**applications: str) -> dict[str, Any]:
    """Return the certificate of a run of which two volumes were themselves sources."""
    made = certificate("20261105T000000-eeeeee", **applications)
    names = ("vg0/vm1", "vg0/vm2")
    return {
        **made,
        "volumes": [*made["volumes"], *({"volume": name, "filesystem": "raw"} for name in names)],
        "frozen": [
            *made["frozen"],
            *({"path": f"/real/dev/{name}", "volume": name, "because": f"/dev/mapper/{name}"} for name in names),
        ],
    }


def test_a_volume_that_was_itself_a_source_is_drilled() -> None:
    chosen = choice.choose([of_disks(db="/db")], "borg", "", [])
    assert [(one.name, one.plugin) for one in chosen.applications] == [
        ("db", "postgresql"), ("vg0/vm1", "disk"), ("vg0/vm2", "disk")
    ]  # fmt: skip
    (data,) = chosen.applications[1].data
    assert data.places == ("/dev/mapper/vg0/vm1", "/real/dev/vg0/vm1")
    assert [one.name for one in choice.choose([of_disks()], "borg", "", ["vg0/vm2"]).applications] == ["vg0/vm2"]
    with pytest.raises(UsageError, match="has saved no data of vg0/srv that is known"):
        choice.choose([of_disks()], "borg", "", ["vg0/srv"])


def test_a_disk_that_an_application_has_named_is_the_applications() -> None:
    """It is in the archive by the name that the backup command had for it."""
    chosen = choice.choose([of_disks(machine="/dev/vg0/vm1")], "borg", "", [])
    assert [one.name for one in chosen.applications] == ["machine", "vg0/vm2"]
    (data,) = chosen.applications[0].data
    assert data.places == ("/dev/mapper/vg0/vm1", "/real/dev/vg0/vm1", "/dev/vg0/vm1")
