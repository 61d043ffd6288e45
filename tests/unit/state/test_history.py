"""The history of runs: it survives damage and never fails a backup."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from borg_lvm.linux.device_mapper import Fill
from borg_lvm.log import Log
from borg_lvm.planning.space.growth_policy import FillHistory, Sample, SnapshotStatistics
from borg_lvm.planning.space.usage_estimate import Once
from borg_lvm.plugins.backup_command import Span
from borg_lvm.reporting.outcome import Outcome
from borg_lvm.state import history, kept
from borg_lvm.state.kept import KeptRecord
from tests.unit.data.machine import MIB, Machine

GOOD = {
    "version": 1,
    "seconds": 60.5,
    "status": 0,
    "volumes": [{"uuid": "u", "used": 5, "space": 10, "written": 7, "lost": False}],
}

CERTIFICATE = {"version": 1, "run": "1"}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(history, "DIRECTORY", str(tmp_path / "lib" / "history"))
    return tmp_path / "lib" / "history"


def outcome(run_id: str = "1", status: int | None = 0, used: int = 5 * MIB, bad: str = "") -> Outcome:
    machine = Machine()
    plan = replace(machine.plan(machine.resolve("/etc")), run_id=run_id)
    story = SnapshotStatistics(FillHistory.begun(Sample(0, used, 16 * MIB)), written=9 * MIB)
    return Outcome(plan, (), status, 60.5, (Fill(used, 16 * MIB, bad),), stories=(story,), ran=Span(1.0, 61.5))


def keep(*outcomes: Outcome) -> None:
    for one in outcomes:
        history.keep(one, CERTIFICATE, history.read(), Log(quiet=True))


def known(directory: Path, **changed: object) -> history.History:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "1.json").write_text(json.dumps(GOOD | changed))
    return history.read()


def test_the_size_that_a_loss_has_named_is_kept() -> None:
    keep(outcome(used=16 * MIB, bad="the kernel calls it 'Invalid' (snapshot)"))
    ((once,),) = history.read().volumes.values()
    assert (once.lost, once.wanted) == (True, 32 * MIB)


def test_nothing_yet() -> None:
    assert history.read() == history.History()


def test_what_is_kept_is_read_again_oldest_first(directory: Path) -> None:
    keep(outcome("20260101T000000-b", used=MIB), outcome("20260102T000000-a", used=2 * MIB))
    (runs,) = history.read().volumes.values()
    assert runs == [Once(60.5, used, 16 * MIB, False, 9 * MIB) for used in (MIB, 2 * MIB)]
    assert directory.stat().st_mode & 0o777 == 0o700


def test_the_chunk_and_the_requests_are_kept() -> None:
    one = outcome()
    (snapshot,) = one.plan.snapshots
    plan = replace(one.plan, snapshots=(replace(snapshot, chunk=64 << 10),))
    keep(replace(one, plan=plan, stories=(replace(one.stories[0], count=77),)))
    (runs,) = history.read().volumes.values()
    assert [(once.chunk, once.count) for once in runs] == [(64 << 10, 77)]


def test_one_of_an_older_borg_lvm_had_lvms_chunks(directory: Path) -> None:
    (once,) = known(directory).volumes["u"]
    assert (once.chunk, once.count) == (4 << 10, 0)


def test_what_came_after_the_last_look_counts() -> None:
    keep(replace(outcome(used=MIB), fills=(Fill(12 * MIB, 16 * MIB),)))
    (runs,) = history.read().volumes.values()
    assert [one.used for one in runs] == [12 * MIB]


def test_a_run_whose_command_did_not_end_is_not_counted(directory: Path) -> None:
    keep(outcome(status=None))
    assert [path.name for path in directory.iterdir()] == ["1.failed"]
    assert history.read() == history.History()


def test_any_number_of_failed_runs_pushes_out_no_other(directory: Path) -> None:
    keep(outcome("a"), *(outcome(f"run{number:03}", None) for number in range(history.KEPT + 3)))
    assert len(list(directory.glob("*.failed"))) == history.KEPT
    assert len(list(directory.glob("*.json"))) == 1


def test_the_certificates_of_all_runs_oldest_first() -> None:
    keep(outcome("b"), outcome("a", None), outcome("c"))
    assert history.records() == [KeptRecord(name, CERTIFICATE) for name in "abc"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"certificate": null}', "damaged"),
        (json.dumps(GOOD), "of an older borg-lvm"),
        ('{"certificate": {"version": 2}}', "of another version"),
    ],
)
def test_a_record_that_cannot_be_shown_says_why(directory: Path, text: str, problem: str) -> None:
    directory.mkdir(parents=True)
    (directory / "1.json").write_text(text)
    (found,) = history.records()
    assert found.certificate is None
    assert problem in found.problem


@pytest.mark.parametrize(("status", "counts"), [(0, 1), (1, 1), (3, 1), (100, 1), (2, 0), (130, 0), (143, 0)])
def test_a_command_that_failed_has_not_read_all(status: int, counts: int) -> None:
    keep(outcome(status=status))
    assert len([once for runs in history.read().volumes.values() for once in runs]) == counts


def test_a_lost_snapshot_counts_whatever_the_status() -> None:
    keep(outcome(status=143, bad="gone"))
    (runs,) = history.read().volumes.values()
    assert runs[0].lost
    assert runs[0].needed == 32 * MIB


def test_only_so_many_are_kept(directory: Path) -> None:
    keep(*(outcome(f"run{number:03}") for number in range(history.KEPT + 3)))
    assert len(list(directory.iterdir())) == history.KEPT
    assert min(path.name for path in directory.iterdir()) == "run003.json"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", "[" * 100_000, '{"version": 1}', "\0" * 99, "\xff", '{"version": 1, "volumes": 3}'],
)
def test_a_damaged_one_is_set_aside_and_the_others_count(
    directory: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    keep(outcome("1"))
    (directory / "2.json").write_text(text, encoding="latin-1")
    assert history.read().damaged == ("2.json",)
    history.keep(outcome("3"), CERTIFICATE, history.read(), Log(quiet=True))
    assert "damaged and has been set aside" in capfd.readouterr().err
    assert sorted(path.name for path in directory.iterdir()) == ["1.json", "2.damaged", "3.json"]
    assert history.read().damaged == ()
    (runs,) = history.read().volumes.values()
    assert len(runs) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"seconds": "long"},
        {"seconds": -1},
        {"seconds": float("nan")},
        {"volumes": [{"uuid": "u"}]},
        {"volumes": [GOOD["volumes"][0] | {"used": -1}]},  # type: ignore[index]
        {"volumes": [GOOD["volumes"][0] | {"used": 1.5}]},  # type: ignore[index]
        {"volumes": [GOOD["volumes"][0] | {"space": 1 << 70}]},  # type: ignore[index]
        {"volumes": [GOOD["volumes"][0] | {"chunk": 5000}]},  # type: ignore[index]
        {"volumes": [GOOD["volumes"][0] | {"writes": -1}]},  # type: ignore[index]
    ],
)
def test_nonsense_is_damage(directory: Path, changed: dict[str, object]) -> None:
    assert known(directory, **changed).damaged == ("1.json",)


def test_another_version_is_left_alone(directory: Path) -> None:
    assert known(directory, version=2) == history.History()
    keep(outcome("2"))
    assert sorted(path.name for path in directory.iterdir()) == ["1.json", "2.json"]


def test_what_others_know_besides_does_not_disturb(directory: Path) -> None:
    assert known(directory, certificate={"a": 1}).volumes == {"u": [Once(60.5, 5, 10, False, 7)]}


def test_a_directory_that_cannot_be_written_is_a_warning(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    directory.parent.parent.mkdir(exist_ok=True)
    directory.parent.write_text("a file where a folder should be")
    assert "cannot be read" in history.read().trouble
    keep(outcome())
    told = capfd.readouterr().err
    assert "cannot be kept" in told
    assert "the backup is not concerned" in told


def test_nothing_half_written_is_left(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    keep(outcome())
    assert list(directory.iterdir()) == []


def test_however_much_others_make_a_run_name_its_record_can_be_read_again(directory: Path) -> None:
    """An owner of a database's directory had ten thousand links out of it, and no run was known any more."""
    links = [{"path": f"/srv/{number}/{'x' * 300}", "real": "y" * 3000, "what": "table"} for number in range(10_000)]
    long = {**CERTIFICATE, "applications": [{"data": links}], "error": {"message": "m" * (2 << 20), "details": []}}
    history.keep(outcome("1"), long, history.read(), Log(quiet=True))
    assert (directory / "1.json").stat().st_size <= kept.LARGEST
    assert history.read().damaged == ()
    assert len(history.read().volumes) == 1
    (record,) = history.records()
    assert record.certificate
    assert record.certificate["version"] == 1
    assert record.certificate["applications"][0]["data"][:2] == [
        {**one, "real": f"{one['real'][:500]}…"} for one in links[:2]
    ]
    assert record.certificate["error"]["message"] == f"{'m' * 500}…"


@pytest.mark.parametrize("part", ["a list", "lists", "a text", "texts"])
def test_whatever_is_long_is_cut_until_it_fits(part: str) -> None:
    parts: dict[str, dict[str, object]] = {
        "a list": {"list": ["x"] * 1_000_000},
        "lists": {"list": [[[["x" * 50] * 20] * 20] * 20] * 20},
        "a text": {"text": "\u00fc" * 3_000_000},
        "texts": {str(number): "x" * 50_000 for number in range(100)},
    }
    whole = {"version": 1, **parts[part]}
    found = json.loads(kept.dumped(whole))
    assert len(json.dumps(found)) <= kept.LARGEST
    assert found.keys() == whole.keys()
    assert (
        kept.dumped({"version": 1, "list": ["x"] * 1001}, run="1")
        == json.dumps({"run": "1", "certificate": {"version": 1, "list": ["x"] * 1001}}).encode()
    )
