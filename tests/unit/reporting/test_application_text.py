"""What a plan says of applications before they are quiesced, and a run afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from borg_lvm.planning.application_data import Kept, PlannedApplication
from borg_lvm.planning.plan import Plan
from borg_lvm.planning.space.chunk_size import Chunk, Reckoning
from borg_lvm.reporting.outcome import ApplicationResult, Outcome, summary
from borg_lvm.reporting.plan_text import as_data, table
from tests.unit.data import runs
from tests.unit.data.machine import MIB


def plan() -> Plan:
    """A database with half of its data saved, and a cache that keeps nothing."""
    kept = (Kept("/home/db", "data", "vg0/home"), Kept("/mnt/log", "log", "", "/mnt is read live"))
    database = PlannedApplication(
        "db", "postgresql", "checkpoint", "a checkpoint", "15", kept, ("it is a\x1b standby",)
    )
    cache = PlannedApplication("cache", "redis", "pause", "writers wait", "7", ())
    return replace(runs.two(), applications=(database, cache))


def lines_of(text: Plan) -> list[str]:
    return list(table(text))


def test_they_stand_in_their_order_with_what_is_done() -> None:
    lines = lines_of(plan())
    at = lines.index("Applications, quiesced in this order:")
    assert [line.split() for line in lines[at + 1 : at + 4]] == [
        ["NAME", "PLUGIN", "VERSION", "LEVEL"],
        ["db", "postgresql", "15", "checkpoint:", "a", "checkpoint"],
        ["cache", "redis", "7", "pause:", "writers", "wait"],
    ]


def test_what_they_keep_and_what_of_it_is_not_saved() -> None:
    lines = lines_of(plan())
    at = lines.index("What they keep:")
    assert [line.split(maxsplit=3) for line in lines[at + 2 : at + 4]] == [
        ["db", "/home/db", "data", "vg0/home"],
        ["db", "/mnt/log", "log", "not saved: /mnt is read live"],
    ]


def test_notes_name_their_application_and_steer_no_terminal() -> None:
    assert [line for line in lines_of(plan()) if line.startswith("Note: db: ")] == ["Note: db: it is a\\x1b standby"]


def test_one_that_keeps_nothing_has_no_table_and_none_has_no_heading() -> None:
    _, cache = plan().applications
    assert "What they keep:" not in lines_of(replace(plan(), applications=(cache,)))
    assert not [line for line in lines_of(runs.two()) if line.startswith("Applications")]


def test_chunks_are_shown_with_their_reason_where_they_are_known() -> None:
    thick, thin = runs.two().snapshots
    choice = Chunk(64 * 1024, "it is written in long runs", 128 * 1024, Reckoning(65536.4, 0.5, 1.504, 2.5))
    chosen = replace(thick, chunk=64 * 1024, chunk_choice=choice)
    lines = lines_of(replace(runs.two(), snapshots=(chosen, thin)))
    at = lines.index("Chunks in which they keep what is overwritten:")
    assert lines[at + 2].split(maxsplit=3) == ["vg0/home", "64", "KiB", "it is written in long runs"]
    assert lines[at + 3] == ""
    unknown = replace(runs.two(), snapshots=(replace(thick, chunk=0, chunk_choice=None), thin))
    assert not [line for line in lines_of(unknown) if line.startswith("Chunks")]
    data = as_data(replace(runs.two(), snapshots=(chosen, thin)))["snapshots"]
    assert [one["best_chunk"] for one in data] == [128 * 1024, None]
    assert [one["chunk_reckoning"] for one in data] == [
        {"mean": 65536.4, "past_copied": 0.5, "copied": 1.5, "copied_larger": 2.5},
        None,
    ]


def test_a_group_with_less_space_than_auto_would_take_is_noted() -> None:
    """The same in words and for a program; nothing where the group has it, nor of a thin snapshot."""
    thick, thin = runs.two().snapshots
    thick = replace(thick, size=32 * MIB, origin=replace(thick.origin, vg_free=40 * MIB))
    for wanted, names in ((0, 0), (40 * MIB, 0), (41 * MIB, 1)):
        text = replace(runs.two(), snapshots=(replace(thick, wanted=wanted), thin))
        notes = [line for line in lines_of(text) if line.startswith("Note: volume group")]
        assert len(notes) == names
        assert [f"Note: {note}" for note in as_data(text)["notes"] if note.startswith("volume group")] == notes
    assert notes == [
        "Note: volume group vg0 has 40.0 MiB free, less than the 41.0 MiB that the snapshot of home should have; "
        "if one is full before the backup has ended, the backup is invalid (status 74); "
        "add a disk (pvs; vgextend vg0 DEVICE), or remove kept snapshots (borg-lvm clean --run ID)"
    ]


def test_a_program_reads_the_same() -> None:
    database, cache = as_data(plan())["applications"]
    assert (database["level"], database["keeps"][0]["volume"], database["keeps"][1]["missing"]) == (
        "checkpoint",
        "vg0/home",
        "/mnt is read live",
    )
    assert (cache["name"], cache["keeps"]) == ("cache", [])


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (
            ApplicationResult("db", "checkpoint", 0.25, "", False, remark="LSN 0/1", verified="its log"),
            "db: quiesced (checkpoint) for 0.25 s; LSN 0/1; verified in the snapshot: its log",
        ),
        (
            ApplicationResult("db", "checkpoint", 0.0, "it hung", False, remark="LSN 0/1", verified="its log"),
            "db: not quiesced: it hung",
        ),
        (
            ApplicationResult("db", "checkpoint", 1.0, "", False, wrong="the snapshot is\x1b wrong"),
            "db: quiesced (checkpoint) for 1.00 s; the snapshot is\\x1b wrong",
        ),
    ],
    ids=["quiesced", "not quiesced", "wrong"],
)
def test_how_it_went(result: ApplicationResult, line: str) -> None:
    ended = Outcome(runs.two(), status=0, applications=(result,))
    assert (line, {"application": "db"}) in list(summary(replace(ended, plan=replace(ended.plan, snapshots=()))))
