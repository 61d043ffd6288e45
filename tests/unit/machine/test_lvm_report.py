"""The report of `lvs`, as lvm2 2.03.16 writes it (recorded; states and fill levels as lvs(8) tells them)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.machine import lvm
from borg_lvm.machine.lvm import FIELDS, Volume, dm_name, parse
from tests.unit.data.machine import GIB, MIB, VOLUME

REPORT = (Path(__file__).parents[1] / "data" / "lvs.json").read_text()


def named(name: str, text: str = REPORT) -> Volume:
    (found,) = (volume for volume in parse(text) if volume.name == name)
    return found


def changed(change: Callable[[dict[str, str]], None]) -> str:
    data = json.loads(REPORT)
    for row in data["report"][0]["lv"]:
        change(row)
    return json.dumps(data)


def test_the_recorded_report_has_every_field_that_we_ask_for() -> None:
    assert set(json.loads(REPORT)["report"][0]["lv"][0]) == set(FIELDS.split(","))


def test_a_plain_volume() -> None:
    root = named("root")
    assert (root.full_name, root.size, root.extent, root.vg_free) == ("vg0/root", 40 * MIB, 4 * MIB, 188 * MIB)
    assert (root.active, root.suspended, root.minor) == (True, False, 0)
    assert (root.data_percent, root.metadata_percent, root.pool, root.origin) == (None, None, "", "")
    assert (root.is_thin, root.is_snapshot, root.is_merging) == (False, False, False)
    assert root.tags == ()
    assert root.run_id == ""


def test_an_origin_is_no_snapshot() -> None:
    home = named("home")
    assert not home.is_snapshot
    assert not home.is_merging
    assert home.tags == ("daily",)


def test_a_snapshot_of_ours() -> None:
    snapshot = named("homesnap")
    assert snapshot.is_snapshot
    assert snapshot.run_id == "20240102T030405-abcdef"
    assert snapshot.origin == "home"
    assert snapshot.data_percent == 0.25


def test_a_snapshot_that_holds_more_than_its_space_is_full() -> None:
    """lvm2 2.03.16 writes so after `lvresize` has made it smaller; other groups' volumes are in the same report."""
    report = changed(lambda row: row.update(data_percent="119.25") if row["lv_name"] == "homesnap" else None)
    assert named("homesnap", report).data_percent == 100.0
    assert named("root", report) == named("root")


def test_a_thin_volume_stays_thin_when_it_has_a_thick_snapshot() -> None:
    """Its attributes begin with `o` then, not with `V`."""
    thin = named("thin1")
    assert thin.attr[0] == "o"
    assert thin.is_thin
    assert thin.pool == "pool"


def test_a_thin_snapshot_is_a_thin_volume_and_inactive_by_default() -> None:
    snapshot = named("thin2")
    assert (snapshot.is_thin, snapshot.is_snapshot, snapshot.active, snapshot.minor) == (True, False, False, -1)


def test_a_pool_is_not_thin_itself() -> None:
    pool = named("pool")
    assert not pool.is_thin
    assert (pool.data_percent, pool.metadata_percent) == (12.5, 10.94)


def test_a_cached_volume_has_a_pool_too_but_is_not_thin() -> None:
    cached = replace(VOLUME, attr="Cwi-aoC---", layout=frozenset(["cache"]), pool="cpool")
    assert not cached.is_thin


@pytest.mark.parametrize("text", ["suspended", "1"])
def test_a_suspended_volume(text: str) -> None:
    """`1` is what LVM writes with report/binary_values_as_numeric in lvm.conf."""

    def change(row: dict[str, str]) -> None:
        row["lv_suspended"] = text if row["lv_suspended"] else "0"

    assert named("my-lv_1", changed(change)).suspended
    assert not named("root", changed(change)).suspended


@pytest.mark.parametrize(
    ("attr", "merging"),
    [
        ("owi-aos---", False),
        ("Owi-aos---", True),
        ("Swi-a-s---", True),
        ("swi-I-s---", False),
        ("Vwi-aotz--", False),
    ],
)
def test_what_the_attributes_say(attr: str, merging: bool) -> None:
    assert replace(VOLUME, attr=attr).is_merging == merging


def test_large_sizes_stay_exact() -> None:
    size = 16 * 1024 * 1024 * GIB + 4096
    assert named("root", changed(lambda row: row.update(lv_size=str(size)))).size == size


def test_a_volume_that_is_listed_twice_is_one() -> None:
    data = json.loads(REPORT)
    data["report"][0]["lv"] *= 2
    assert parse(json.dumps(data)) == parse(REPORT)


def test_a_machine_without_volumes() -> None:
    assert (
        parse('  {\n      "report": [\n          {\n              "lv": [\n              ]\n          }\n ]\n  }\n')
        == []
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "{}",
        "[]",
        "null",
        '{"report": []}',
        '{"report": [{"pv": []}]}',
        '{"report": {"lv": []}}',
        '{"report": [{"lv": null}]}',
        '{"report": [{"lv": [{"lv_uuid": "x"}]}]}',
        REPORT.replace('"4194304"', '"4.00m"'),
        REPORT[:-200],
    ],
)
def test_any_other_report_is_an_error_that_shows_it(text: str) -> None:
    with pytest.raises(SnapshotError, match="not the JSON that LVM documents") as told:
        parse(text)
    assert told.value.details == ((text[:200],) if text else ())


@pytest.mark.parametrize(
    ("vg", "lv", "name"),
    [
        ("vg0", "home", "vg0-home"),
        ("data-vg", "my-lv_1", "data--vg-my--lv_1"),
        ("a--b", "-c", "a----b---c"),
        ("vg.1+x", "lv", "vg.1+x-lv"),
    ],
)
def test_device_mapper_names(vg: str, lv: str, name: str) -> None:
    assert dm_name(vg, lv) == name


def test_device_mapper_names_are_never_given_twice() -> None:
    assert dm_name("a-b", "c") != dm_name("a", "b-c")


def test_device_mapper_uuids_have_no_dashes() -> None:
    assert named("root").dm_uuid == "LVM-y9NYy4P4LLxwmQDbpQ7lkMXMHQwUF3UiKVReFGI1HTggeY255xNxQaIfjcpWHmwT"


def test_the_report_asks_for_plain_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(argv: list[str], *, timeout: float) -> str:
        asked.append(argv)
        return REPORT

    monkeypatch.setattr("borg_lvm.machine.lvm.subprocesses.run", answer)
    assert len(lvm.report(5, ["vg0/home"])) == 8
    (argv,) = asked
    assert argv[0] == "lvs"
    assert "--nosuffix" in argv
    assert argv[argv.index("--units") + 1] == "b"
    assert argv[-1] == "vg0/home"


BROKEN: dict[str, Callable[[dict[str, object]], object]] = {
    "null": lambda row: row.update(lv_name=None),
    "number": lambda row: row.update(lv_tags=7),
    "list": lambda row: row.update(lv_layout=["linear"]),
    "deep": lambda row: row.update(pool_lv={"a": [[]]}),
    "missing": lambda row: row.pop("lv_uuid"),
    "infinite": lambda row: row.update(data_percent="inf"),
    "no number": lambda row: row.update(metadata_percent="nan"),
    "less than empty": lambda row: row.update(data_percent="-1"),
    "below nothing": lambda row: row.update(lv_size="-1"),
    "endless": lambda row: row.update(lv_size="9" * 5000),
    "extent": lambda row: row.update(vg_extent_size="0"),
    "attributes": lambda row: row.update(lv_attr="-wi"),
    "no device": lambda row: row.update(lv_kernel_minor="-2"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_report_that_lvm_does_not_write_is_refused(change: Callable[[dict[str, object]], object]) -> None:
    data = json.loads(REPORT)
    change(data["report"][0]["lv"][0])
    with pytest.raises(SnapshotError, match="lvs gave a report"):
        parse(json.dumps(data))


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"report": ' * 50_000, "null", '{"report": [{"lv": [1]}]}', "\0"])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(SnapshotError, match="lvs gave a report"):
        parse(text)
