"""The certificate of a run: what it claims, and that it is what its schema says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import borg_lvm
from borg_lvm.planning.application_data import Kept, PlannedApplication
from borg_lvm.plugins.backup_command import Reading
from borg_lvm.reporting.outcome import ApplicationResult
from tests.unit.data import runs
from tests.unit.data.schemas import broken, objects, rows

assert borg_lvm.__file__
SCHEMA = json.loads((Path(borg_lvm.__file__).parent / "certificate.schema.json").read_text())
PAGE = (Path(__file__).parents[3] / "docs" / "certificate.md").read_text().partition("## The certificate of a drill")[0]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", runs.ALL)
def test_every_kind_of_run_validates(kind: str) -> None:
    VALIDATOR.validate(json.loads(json.dumps(runs.ALL[kind])))


def test_every_key_is_explained_required_and_known() -> None:
    for name, found in objects(SCHEMA):
        assert found["additionalProperties"] is False, name
        assert found["required"] == list(found["properties"]), name
        assert all(inner["description"] for inner in found["properties"].values()), name


def test_the_page_explains_every_key_as_the_schema_does() -> None:
    documented = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
    assert {key: (values, meaning) for key, values, meaning in documented} == rows(SCHEMA)


def test_the_schema_refuses_what_is_missing_unknown_or_of_another_kind() -> None:
    whole = json.loads(json.dumps(runs.ALL["success"]))
    for path, change, one in broken(whole):
        assert not VALIDATOR.is_valid(one), (path, change)


RESULTS = {
    "success": "success",
    "warning": "warning",
    "not released": "warning",
    "kept": "success",
    "failure": "failure",
    "tainted": "tainted",
    "no snapshots": "failure",
    "interrupted": "failure",
    "a bug": "failure",
    "broke off": "failure",
    "not quiesced": "warning",
    "wrong copy": "warning",
    "odd names": "success",
}


@pytest.mark.parametrize("kind", runs.ALL)
def test_the_result_in_a_word(kind: str) -> None:
    assert runs.ALL[kind]["result"] == RESULTS[kind]


def test_a_status_is_a_warning_only_to_the_program_that_means_it_so() -> None:
    assert runs.made(runs.outcome(1), 1, reading=Reading("sh", ""))["result"] == "failure"
    assert runs.made(runs.outcome(3), 3)["result"] == "failure"
    assert runs.made(runs.outcome(74), 74)["result"] == "failure"  # a status of the command's own


@pytest.mark.parametrize("kind", runs.ALL)
def test_an_archive_is_named_only_where_one_was_saved(kind: str) -> None:
    found = runs.ALL[kind]
    assert found["archive"] == ("monday" if found["result"] in ("success", "warning") else None)


@pytest.mark.parametrize("kind", runs.ALL)
def test_nothing_is_promised_of_a_run_that_saved_nothing_sound(kind: str) -> None:
    found = runs.ALL[kind]
    if found["result"] not in ("success", "warning"):
        assert {one["consistency"] for one in found["applications"]} <= {"none"}


@pytest.mark.parametrize(
    ("known", "out", "consistency", "promised"),
    [
        (True, "", "instant", "application"),
        (True, "", "per-volume", "application"),
        (True, "no answer", "instant", "crash-consistent"),
        (True, "no answer", "per-volume", "none"),
        (False, "no answer", "instant", "none"),
    ],
)
def test_what_an_application_can_count_on(known: bool, out: str, consistency: str, promised: str) -> None:
    assert promised_to(ApplicationResult("db", "lock", 0.2, out, False), known, consistency) == promised


@pytest.mark.parametrize(
    ("still", "consistency", "promised"),
    [
        (False, "instant", "crash-consistent"),
        (False, "per-volume", "none"),
        (True, "instant", "crash-consistent"),
        (True, "per-volume", "crash-consistent"),
    ],
)
def test_one_whose_files_were_not_put_in_order_recovers(still: bool, consistency: str, promised: str) -> None:
    one = ApplicationResult("db", "freeze", 0.2, "", False, still=still, recovers=True)
    assert promised_to(one, True, consistency) == promised


def test_nothing_is_promised_of_a_copy_that_was_found_wrong() -> None:
    (found,) = runs.ALL["wrong copy"]["applications"]
    assert (found["consistency"], found["verified"], found["why"]) == ("none", None, "db: page 1 is torn")
    right = ApplicationResult("db", "lock", 0.2, "", False, verified="pages")
    (found,) = runs.made(runs.outcome(applications=(right,)))["applications"]
    assert (found["consistency"], found["verified"], found["why"]) == ("application", "pages", None)


def promised_to(one: ApplicationResult, known: bool, consistency: str) -> str:
    plan = runs.plan(consistency)
    plan = plan if known else replace(plan, applications=())
    promised: str = runs.made(runs.outcome(plan=plan, applications=(one,)))["applications"][0]["consistency"]
    return promised


def test_what_is_missing_of_an_application() -> None:
    kept = (Kept("/home/db", "data", "vg0/home"), Kept("/mnt/x/t", "tablespace", "", "live"))
    plan = replace(runs.plan(), applications=(PlannedApplication("db", "p", "l", "", "", kept),))
    made = runs.made(runs.outcome(plan=plan, applications=(ApplicationResult("db", "l", 0.0, "no answer", False),)))
    assert made["applications"][0]["not_saved"] == ["/mnt/x/t"]
    assert made["applications"][0]["consistency"] == "none"


def test_where_the_data_of_an_application_was() -> None:
    kept = (Kept("/home/db", "data", "vg0/home", real="/srv/db"), Kept("/mnt/x/t", "tablespace", "", "live"))
    plan = replace(runs.plan(), applications=(PlannedApplication("db", "p", "l", "", "15.4", kept),))
    (found,) = runs.made(runs.outcome(plan=plan, applications=(ApplicationResult("db", "l", 0.0, "", False),)))[
        "applications"
    ]
    assert found["data"] == [{"path": "/home/db", "real": "/srv/db", "what": "data"}]
    assert (found["plugin"], found["version"]) == ("p", "15.4")


def test_how_long_each_volume_stood_still() -> None:
    made = runs.ALL["success"]
    assert [one["still_ms"] for one in made["volumes"]] == [45.0, 100.0]
    assert [one["still_ms"] for one in runs.ALL["no snapshots"]["volumes"]] == [None, None]
    assert made["instants"][0]["uncertainty_ms"] == 123.0


def test_no_argument_of_the_command_is_in_it() -> None:
    assert runs.ALL["success"]["command"] == {"program": "borg", "action": "create", "status": 0, "seconds": 600.0}


def test_the_most_that_was_used_counts_the_look_after_the_command() -> None:
    later = runs.outcome(fills=(replace(runs.outcome().fills[0], used=333), runs.outcome().fills[1]))
    assert runs.made(later)["volumes"][0]["space"]["used"] == 300 << 20
    later = runs.outcome(fills=(replace(runs.outcome().fills[0], used=400 << 20), runs.outcome().fills[1]))
    assert runs.made(later)["volumes"][0]["space"]["used"] == 400 << 20
