"""The certificate of a drill: what it claims, that it is what its schema says, and how it is shown and kept."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import borg_lvm
from borg_lvm.cli import past_runs
from borg_lvm.errors import UsageError
from borg_lvm.log import Log
from borg_lvm.reporting.drills import certificate, text
from borg_lvm.reporting.pages import drill_html
from borg_lvm.state import directories, drills, history
from tests.unit.data import drilled, runs
from tests.unit.data.schemas import broken, objects, places, rows
from tests.unit.reporting.test_accounts import Sound, box

assert borg_lvm.__file__
SCHEMA = json.loads((Path(borg_lvm.__file__).parent / "drill.schema.json").read_text())
PAGE = (Path(__file__).parents[3] / "docs" / "certificate.md").read_text().partition("## The certificate of a drill")[2]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


class TestSchema:
    def test_it_is_valid(self) -> None:
        jsonschema.Draft202012Validator.check_schema(SCHEMA)

    @pytest.mark.parametrize("kind", drilled.ALL)
    def test_every_kind_of_drill_validates(self, kind: str) -> None:
        VALIDATOR.validate(json.loads(json.dumps(drilled.ALL[kind])))

    def test_every_key_is_explained_required_and_known(self) -> None:
        for name, found in objects(SCHEMA):
            assert found["additionalProperties"] is False, name
            assert found["required"] == list(found["properties"]), name
            assert all(inner["description"] for inner in found["properties"].values()), name

    def test_the_page_explains_every_key_as_the_schema_does(self) -> None:
        documented = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
        assert {key: (values, meaning) for key, values, meaning in documented} == rows(SCHEMA)

    def test_it_refuses_what_is_missing_unknown_or_of_another_kind(self) -> None:
        whole = json.loads(json.dumps(drilled.ALL["bad"]))
        for path, change, one in broken(whole):
            assert not VALIDATOR.is_valid(one), (path, change)


@pytest.mark.parametrize(
    ("plugin", "version", "shown"),
    [("redis", "7.0", "redis 7.0"), ("disk", None, "disk"), ("podman", "podman 4.3.1", "podman 4.3.1")],
)
def test_the_name_of_a_program_stands_once(plugin: str, version: str | None, shown: str) -> None:
    assert text.of_plugin({"plugin": plugin, "version": version}) == shown


RESULTS = {
    "good": "success",
    "bad": "failure",
    "not judged": "warning",
    "left": "warning",
    "refused": "failure",
    "odd names": "failure",
}


class TestClaims:
    @pytest.mark.parametrize("kind", drilled.ALL)
    def test_the_result_in_a_word(self, kind: str) -> None:
        assert drilled.ALL[kind]["result"] == RESULTS[kind]

    @pytest.mark.parametrize("status", [0, 76, 77])
    def test_no_status_makes_a_bad_archive_good_nor_one_that_was_not_judged(self, status: int) -> None:
        assert certificate.result(drilled.drill(drilled.TORN, status=status)) == "failure"
        assert certificate.result(drilled.drill(drilled.UNJUDGED, status=status)) == "warning"
        assert certificate.result(drilled.drill(status=status)) == "failure"

    @pytest.mark.parametrize("status", [65, 69, 70, 71, 74, 75, 130])
    def test_a_drill_that_broke_off_is_a_failure(self, status: int) -> None:
        assert certificate.result(drilled.drill(drilled.SHOP, status=status)) == "failure"

    def test_the_time_to_plan_with_is_that_of_the_restore_and_the_start_of_a_good_one(self) -> None:
        made = {one["name"]: one["ready_seconds"] for one in drilled.ALL["good"]["applications"]}
        assert made == {"shop": 252.5, "cache": 2.5}
        assert drilled.ALL["bad"]["applications"][0]["ready_seconds"] is None
        assert drilled.ALL["not judged"]["applications"][1]["ready_seconds"] is None

    def test_when_each_was_good_last_and_which_is_bad_since(self) -> None:
        good, bad = drilled.ALL["good"], {**drilled.ALL["bad"], "end": drilled.BEGIN + 86400}
        assert certificate.last_good([good, bad]) == {"shop": good["end"], "cache": bad["end"]}
        assert certificate.last_good([bad, good]) == {"shop": good["end"], "cache": bad["end"]}
        assert certificate.last_bad([good, bad]) == {"shop": drilled.DRILL}
        assert certificate.last_bad([bad, good]) == {}
        assert certificate.last_bad([bad, drilled.ALL["refused"]]) == {"shop": drilled.DRILL}


class TestText:
    def lines(self, kind: str) -> str:
        return "\n".join(text.lines(drilled.ALL[kind]))

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("good", f"Drill {drilled.DRILL} on server: success (status 0)"),
            ("good", "from the archive nightly-2024-01-07 of borg (run 20240107T020000-123456)"),
            ("good", "  shop   postgresql 15.6  good     5.0 GiB   4 min"),
            ("good", "  cache  redis 7.0        good     20.0 MiB  2.5 s"),
            ("good", "  shop: right: pg_amcheck of 3 databases"),
            ("bad", ": FAILURE (status 74)"),
            ("bad", "  shop: wrong: table shop.orders: page 17: checksum mismatch"),
            ("bad", "  the archive is wrong"),
            ("not judged", "  cache: not judged: redis-server is not installed"),
            ("not judged", "  not drilled: web: units are not drilled"),
            ("refused", "no archive was restored"),
            ("refused", "  the drill needs 9 GiB, and vg0 has 2 GiB free"),
        ],
    )
    def test_it_has_all_that_one_asks(self, kind: str, words: str) -> None:
        assert self.lines(kind).count(words) == 1, self.lines(kind)

    def test_bars_stand_below_each_other_in_the_length_of_their_time(self) -> None:
        rows = [line for line in self.lines("good").splitlines() if "█" in line]
        assert [row.split("  ")[1].strip() for row in rows][:2] == ["shop: restore", "shop: start"]
        assert rows[0].count("█") > 2 * rows[2].count("█") > 10 * rows[1].count("█")
        assert rows[1].index("█") == rows[0].rindex("█") + 1

    @pytest.mark.parametrize("kind", drilled.ALL)
    def test_nothing_steers_the_terminal(self, kind: str) -> None:
        shown = "\n".join([*text.lines(drilled.ALL[kind]), *text.table([text.row(drilled.ALL[kind])])])
        assert "\x1b" not in shown

    def test_a_usual_line_of_the_list_fits_80_columns(self) -> None:
        usual = {**drilled.ALL["bad"], "archive": "srv-2024-01-07"}
        assert all(len(line) <= 80 for line in text.table([text.row(usual)])), list(text.table([text.row(usual)]))


class TestPage:
    @pytest.mark.parametrize("kind", drilled.ALL)
    def test_it_is_sound_and_holds_all_that_the_terminal_shows(self, kind: str) -> None:
        page = drill_html.page(drilled.ALL[kind])
        assert "<script" not in page
        for part in page.split("<svg")[1:]:
            ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")
        Sound().feed(page)
        for one in drilled.ALL[kind]["applications"]:
            assert all(line in page for line in text.remarks(one))

    def test_words_in_drawings_stay_off_each_other(self) -> None:
        for part in drill_html.page(drilled.ALL["good"]).split("<svg ")[1:]:
            svg = "<svg " + part.split("</svg>")[0] + "</svg>"
            boxes = [box(found) for found in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
            for number, (left, top, right, bottom, words) in enumerate(boxes):
                for other in boxes[:number]:
                    apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
                    assert apart, (words, other[4])


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(directories, "ABOVE", (str(tmp_path),))
    monkeypatch.setattr(drills, "DIRECTORY", str(tmp_path / "borg-lvm" / "drills"))
    monkeypatch.setattr(history, "DIRECTORY", str(tmp_path / "borg-lvm" / "history"))
    return tmp_path / "borg-lvm" / "drills"


def named(kind: str, number: int) -> dict[str, Any]:
    return {**drilled.ALL[kind], "drill": f"20240107T04{number:04}-abcdef"}


class TestKept:
    def test_what_is_kept_is_read_again_oldest_first(self, directory: Path) -> None:
        for number, kind in ((2, "good"), (1, "bad")):
            drills.keep(named(kind, number), Log(quiet=True))
        assert [record.certificate for record in drills.records()] == [named("bad", 1), named("good", 2)]
        assert directory.stat().st_mode & 0o777 == 0o700

    def test_any_number_of_failures_pushes_out_nothing_good(self, directory: Path) -> None:
        drills.keep(named("good", 0), Log(quiet=True))
        for number in range(1, drills.KEPT + 3):
            drills.keep(named("refused", number), Log(quiet=True))
        found = drills.certificates()
        assert len(found) == drills.KEPT + 1
        assert found[0] == named("good", 0)

    @pytest.mark.parametrize(
        ("text", "words"),
        [("{}", "is damaged (KeyError)"), ("[]", "is damaged (TypeError)"), ('{"version": 0}', "of another version")],
    )
    def test_each_damage_has_its_words(self, directory: Path, text: str, words: str) -> None:
        drills.keep(named("good", 0), Log(quiet=True))
        (directory / "9.json").write_text(text)
        assert words in drills.records()[-1].problem

    def test_damage_is_named_and_left_out(self, directory: Path) -> None:
        drills.keep(named("good", 0), Log(quiet=True))
        for name, content in (("a", "{"), ("b", '{"version": 7}'), ("c", '{"version": 1}'), ("d", "[]")):
            (directory / f"{name}.json").write_text(content)
        assert drills.certificates() == [named("good", 0)]
        assert len(list(past_runs.overview_of_drills())) == 6
        with pytest.raises(UsageError, match=r"the drill b cannot be shown: .*another version"):
            past_runs.lines("b", past_runs.DRILLS)
        with pytest.raises(UsageError, match=r"the certificate of the drill .* is damaged"):
            past_runs.lines("c", past_runs.DRILLS)

    def test_where_others_may_write_nothing_is_believed_or_kept(
        self, directory: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        drills.keep(named("good", 0), Log(quiet=True))
        directory.chmod(0o777)
        assert drills.certificates() == []
        drills.keep(named("good", 1), Log())
        assert "the certificate of this drill is not kept" in capfd.readouterr().err

    def test_whatever_is_damaged_in_a_certificate_is_no_bug(self, directory: Path) -> None:
        whole = json.loads(json.dumps(named("bad", 1)))
        drills.keep(whole, Log(quiet=True))
        (kept,) = directory.iterdir()
        for path in list(places(whole)):
            inner = whole
            for key in path[:-1]:
                inner = inner[key]
            bad: object
            right = inner[path[-1]]
            for bad in (None, "x", -1, [], {}, 1e300):
                inner[path[-1]] = bad
                kept.write_text(json.dumps(whole))
                with suppress(UsageError):
                    past_runs.lines("", past_runs.DRILLS)
                with suppress(UsageError):
                    past_runs.write_page("", "/dev/null", past_runs.DRILLS)
                list(past_runs.overview())
                certificate.last_good(drills.certificates())
                certificate.last_bad(drills.certificates())
            inner[path[-1]] = right


class TestChosen:
    def test_a_drill_is_found_by_its_id_and_by_the_option(self, directory: Path) -> None:
        drills.keep(named("good", 0), Log(quiet=True))
        history_directory = directory.parent / "history"
        history_directory.mkdir(mode=0o700)
        run = runs.ALL["success"]["run"]
        (history_directory / f"{run}.json").write_text(json.dumps({"certificate": runs.ALL["success"]}))
        assert past_runs.meant("", drill=False) is past_runs.RUNS
        assert past_runs.meant("", drill=True) is past_runs.DRILLS
        assert past_runs.meant(run, drill=False) is past_runs.RUNS
        assert past_runs.meant("20240107T04", drill=False) is past_runs.DRILLS
        assert past_runs.meant("nothing", drill=False) is past_runs.RUNS

    def test_the_list_has_runs_and_drills(self, directory: Path) -> None:
        assert list(past_runs.overview()) == [f"no run is recorded yet (in {history.DIRECTORY})"]
        assert list(past_runs.overview_of_drills()) == [f"no drill is recorded yet (in {directory})"]
        drills.keep(named("good", 0), Log(quiet=True))
        shown = list(past_runs.overview())
        assert shown[2].startswith("DRILL")
        assert shown[3].startswith("20240107T040000-abcdef  ")
        assert past_runs.everything(past_runs.DRILLS) == [named("good", 0)]
