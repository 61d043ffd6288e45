"""What `borg-lvm report` and `borg-lvm history` show of past runs."""

from __future__ import annotations

import argparse
import copy
import json
import os
import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.cli import past_runs
from borg_lvm.cli.commands import report
from borg_lvm.errors import UsageError
from borg_lvm.log import Log
from borg_lvm.reporting import history_text, proof, run_text
from borg_lvm.reporting.pages import run_html, svg
from borg_lvm.reporting.proof import Proof
from borg_lvm.state import drills, history, ledger
from tests.unit.data import runs
from tests.unit.data.schemas import places

RUN = runs.ALL["success"]["run"]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "history"
    found.mkdir()
    monkeypatch.setattr(history, "DIRECTORY", str(found))
    monkeypatch.setattr(drills, "DIRECTORY", str(tmp_path / "drills"))
    return found


def write(directory: Path, run_id: str, certificate: dict[str, Any], ending: str = ".json") -> None:
    (directory / f"{run_id}{ending}").write_text(
        json.dumps({"version": 1, "certificate": {**certificate, "run": run_id}})
    )


class TestReport:
    def text(self, kind: str) -> str:
        return "\n".join(run_text.lines(runs.ALL[kind]))

    def test_what_was_frozen_and_what_each_application_got(self) -> None:
        text = self.text("success")
        for words in (
            f"Run {RUN} on server: success (status 0)",
            "borg create ended with status 0 after 10 min",
            "it saved the archive monday",
            "known to within 123 ms",
            "  /home  vg0/home",
            "  /home/cache  declared live",
            "  /mnt/x       declared: /mnt",
            "  vg0/home  ext4         ≤ 45 ms    300 MiB of 2.0 GiB  -",
            "  vg1/srv   xfs          ≤ 100 ms   in the pool         -",
            "  db    checkpoint  200 ms    application\n",
            "  db: a restore has its files in order; LSN 0/15E2A30",
            "all snapshots were removed",
            "How the snapshot of vg0/home filled:",
            "How the data of the thin pool vg1/pool filled:",
        ):
            assert words in text, text

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("tainted", "BACKUP INVALID (status 74)"),
            ("tainted", "LOST"),
            ("tainted", "borg's archive is gone"),
            ("no snapshots", "no snapshot was taken"),
            ("no snapshots", "cannot freeze /home"),
            ("interrupted", "borg create did not run to its end"),
            ("not released", "not released: snapshot vg0/x"),
            ("kept", "kept: vg0/borg_lvm-"),
            ("wrong copy", "db: page 1 is torn"),
            ("not quiesced", "db: as a power cut at the instant would have left it; no answer"),
        ],
    )
    def test_what_went_wrong(self, kind: str, words: str) -> None:
        assert self.text(kind).count(words) == 1

    def test_of_a_run_that_failed_it_is_not_said_that_nothing_is_promised(self) -> None:
        """Beside `verified in the snapshot` that was two opposite statements."""
        for kind, words in (
            ("failure", "no backup was completed (borg ended with status 2)"),
            ("tainted", "what was saved is invalid"),
            ("wrong copy", "nothing is promised"),
        ):
            run = runs.ALL[kind]
            for seen in run["applications"]:
                application = {**seen, "verified": "quick_check of 1 of 1 databases"}
                text = "\n".join(run_text.lines({**run, "applications": [application]}))
                assert f"  db: {words}; " in text, kind
                assert "verified in the snapshot: quick_check" in text
                assert words in run_html.page({**run, "applications": [application]})

    def test_it_fits_a_terminal_of_80_columns(self) -> None:
        long = copy.deepcopy(runs.ALL["success"])
        for volume, name in zip(long["volumes"], ("server-vg/root", "ubuntu-vg/ubuntu-lv"), strict=True):
            volume["volume"] = name
            volume["space"] = {"planned": 1, "total": 900 << 30, "used": 800 << 30, "grown": 800 << 30}
        for one in (long, runs.REAL):
            for line in run_text.lines(one):
                assert len(line) <= 80, line

    @pytest.mark.parametrize("kind", runs.ALL)
    def test_no_name_steers_the_terminal(self, kind: str) -> None:
        for line in run_text.lines(runs.ALL[kind]):
            assert line.replace("\udce9", "").isprintable(), line
            assert line == line.rstrip()

    def test_the_timeline_has_a_bar_for_each_phase_in_its_place(self) -> None:
        bars = {line.split()[0]: line for line in run_text.timeline(runs.ALL["success"])}
        assert list(bars) == ["waiting", "preparing", "snapshots", "window", "view", "command", "release"]
        assert bars["command"].count("█") == run_text.WIDTH
        assert bars["waiting"].index("█") == bars["command"].index("█")
        assert bars["release"].index("█") == bars["command"].rindex("█")

    def test_the_curve_rises_from_nothing_to_what_was_used(self) -> None:
        rows = list(run_text.chart([[0, 0, 100], [50, 50, 100], [100, 100, 100]], lambda size, _: f"{size:g} B"))
        assert len(rows) == run_text.HEIGHT + 1
        assert "100 B ┤" in rows[0]
        assert [row.count("█") for row in rows[:-1]] == [1, 1, *[run_text.WIDTH // 2 + 1] * 2]
        assert rows[-1].endswith("100 s") or rows[-1].endswith("2 min")

    def test_numbers_as_one_line(self) -> None:
        assert run_text.spark([0, 1, 2, 4, 8]) == "▁▁▂▄█"
        assert run_text.spark([0, 0]) == "▁▁"


class TestPage:
    @pytest.mark.parametrize("kind", runs.ALL)
    def test_it_is_sound_and_holds_all_that_the_terminal_shows(self, kind: str) -> None:
        text = run_html.page(runs.ALL[kind])
        assert "<script" not in text
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
        for part in text.split("<svg")[1:]:
            ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")
        Sound().feed(text)

    def test_phases_windows_and_curves_are_drawn(self) -> None:
        text = run_html.page(runs.ALL["success"])
        drawings = text.split("<svg")[1:]
        assert [one.split('"')[1] for one in drawings] == ["large", "small"] * 5
        first, second, third, pool, _ = drawings[::2]
        assert first.count("<rect") == 7  # six phases and a window
        assert second.count('class="still"') == 3  # the window and two volumes
        assert third.count("<polygon") == 1
        assert "how the snapshot of vg0/home filled" in third
        assert "how the data of the thin pool vg1/pool filled" in pool
        assert "50 % used" in pool

    def test_what_was_read_back_is_told_and_comes_after_the_command(self) -> None:
        made = copy.deepcopy(runs.REAL)
        made["proof"] = proof.as_data(Proof("all", "proven", 1, 81.0, ("/r::a",), 190))
        made["phases"].insert(-1, {"name": "proof", "begin": 25.837, "seconds": 81.0})
        made["phases"][-1]["begin"] += 81.0
        text = run_html.page(made)
        assert "190 entries and the content of 0 files (0 B) of /r::a are as frozen (81.0 s)" in text
        whole, early = text.split("<svg")[1:4:2]
        assert ">proof<" in whole
        assert ">proof<" not in early

    def test_no_two_moments_of_an_axis_are_the_same(self) -> None:
        for end in (0.02, 7, 119, 130, 7199, 7200, 40_000):
            moments = [svg.moment_of(end * number / 5, end) for number in range(6)]
            assert len(set(moments)) == 6, moments
        assert [svg.moment_of(one, 130) for one in (0, 26, 130)] == ["0:00 min", "0:26 min", "2:10 min"]
        assert svg.moment_of(5400, 7200) == "1:30 h"

    @pytest.mark.parametrize("name", ["real", "vg/a", "a-group-with-a-long-name/and-a-volume-with-a-long-one"])
    def test_words_in_drawings_stay_on_the_paper_and_off_each_other(self, name: str) -> None:
        made = copy.deepcopy(runs.REAL)
        if name != "real":
            made = json.loads(json.dumps(made).replace(made["volumes"][-1]["volume"], name))
        for part in run_html.page(made).split("<svg ")[1:]:
            svg = "<svg " + part.split("</svg>")[0] + "</svg>"
            width = int(svg.split('viewBox="0 0 ')[1].split()[0])
            boxes = [box(text) for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
            for number, (left, top, right, bottom, words) in enumerate(boxes):
                assert left >= 0, words
                assert right <= width, words
                for other in boxes[:number]:
                    apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
                    assert apart, (words, other[4])


def box(text: ElementTree.Element) -> tuple[float, float, float, float, str]:
    """Return the room that words in a drawing take up, at 13 px, and the words."""
    words = text.text or ""
    width, x, y = 7.5 * len(words), float(text.get("x", "")), float(text.get("y", ""))
    left = x - {"end": width, "middle": width / 2, None: 0}[text.get("text-anchor")]
    return left, y - 10, left + width, y + 1, words


class Sound(HTMLParser):
    """Fails when tags are not closed in their order."""

    VOID = ("meta", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class TestHistory:
    def test_one_line_a_run(self, directory: Path) -> None:
        for number, kind in enumerate(runs.ALL):
            write(directory, f"run{number:02}", runs.ALL[kind], ".json" if number % 2 else ".failed")
        lines = list(past_runs.overview())
        assert lines[0].split()[:3] == ["RUN", "BEGAN", "RESULT"]
        assert [line.split()[0] for line in lines[1 : len(runs.ALL) + 1]] == [
            f"run{n:02}" for n in range(len(runs.ALL))
        ]
        assert "TAINTED 74" in lines[list(runs.ALL).index("tainted") + 1]

    def test_it_fits_a_terminal_of_80_columns(self) -> None:
        one = {**runs.ALL["failure"], "run": RUN}
        one["command"] = {**one["command"], "program": "borgmatic"}
        for line in [*history_text.table([history_text.line(one)]), *history_text.trends([one, one])]:
            assert len(line) <= 80, line

    def test_the_trend_of_each_volume(self) -> None:
        later = runs.outcome()
        made = runs.made(later)
        made["volumes"][0]["space"]["used"] *= 2
        made["volumes"][0]["still_ms"] = 90.0
        text = "\n".join(history_text.trends([runs.ALL["success"], made]))
        assert "vg0/home, oldest first:" in text
        assert "space used   ▄█  300 MiB … 600 MiB, at most 600 MiB" in text
        assert "suspended  ▄█  45 ms … 90 ms, at most 90 ms" in text
        assert list(history_text.trends([made])) == []

    def test_the_trend_does_not_make_a_lost_snapshot_small(self) -> None:
        made = runs.made(runs.outcome())
        space = made["volumes"][0]["space"]
        made["volumes"][0]["lost"], space["used"], space["total"] = "full", 1 << 20, 600 << 20
        text = "\n".join(history_text.trends([runs.ALL["success"], made]))
        assert "300 MiB … 600 MiB, at most 600 MiB" in text
        assert "lost         1 of 2: they needed more than they had" in text

    def test_no_run_yet(self, directory: Path) -> None:
        assert list(past_runs.overview()) == [f"no run is recorded yet (in {directory})"]
        with pytest.raises(UsageError, match="no run is recorded yet"):
            past_runs.lines("")
        directory.rmdir()
        assert past_runs.everything() == []

    def test_a_killed_run_is_named_while_it_has_left_something(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        write(directory, "20260101-a", runs.ALL["success"])
        monkeypatch.setattr(ledger, "STATE", str(directory.parent / "state"))
        assert list(past_runs.interrupted()) == []
        for run_id, command in (("20260101-a", "borg"), ("20260102-b", "borg"), ("20260103-c", ledger.DRILL)):
            with ledger.opened(run_id, command) as book:
                left = Path(book.directory, "ledger")  # as one that is killed leaves it: nobody has its lock
            left.write_text(left.read_text().replace(ledger.boot_id(), "of an earlier boot"))
        # The first has a certificate: it could not remove something.
        words = "was interrupted and has no certificate; remove its leftovers: borg-lvm clean"
        told = [f"run 20260102-b {words}", f"drill 20260103-c {words}"]
        assert list(past_runs.overview())[-2:] == told
        for run, more in (("", told), ("20260101-a", [])):
            args = argparse.Namespace(run=run, drill=False, html="", json=False)
            assert report.perform(args, Log(quiet=True)) == 0
            assert capfd.readouterr().out.splitlines()[-2:] == (more or list(past_runs.lines("20260101-a"))[-2:])
        with ledger.opened("20260104-d", "borg"):
            assert list(past_runs.interrupted()) == told  # a run that goes on is none of these

    def test_a_directory_that_cannot_be_read(self, directory: Path) -> None:
        directory.rmdir()
        directory.write_text("")
        with pytest.raises(UsageError, match="cannot be read"):
            past_runs.lines("")

    def test_a_run_by_its_id_or_the_beginning_of_it(self, directory: Path) -> None:
        for run_id in ("20260102-a", "20260103-a", "20260103-ab"):
            write(directory, run_id, runs.ALL["success"])
        assert past_runs.certificate("")["run"] == "20260103-ab"
        assert past_runs.certificate("20260102")["run"] == "20260102-a"
        assert past_runs.certificate("20260103-a")["run"] == "20260103-a"
        with pytest.raises(UsageError, match="2 runs begin with '20260103'"):
            past_runs.certificate("20260103")
        with pytest.raises(UsageError, match="no run 'x' is recorded"):
            past_runs.certificate("x")

    def test_damaged_files_are_named_and_the_others_shown(self, directory: Path) -> None:
        write(directory, "a", runs.ALL["success"])
        (directory / "b.json").write_text("{")
        write(directory, "c", {"version": 1})
        text = list(past_runs.overview())
        assert text[1].startswith("a ")
        assert [line[:12] for line in text[-2:]] == ["not shown: b", "not shown: t"]
        with pytest.raises(UsageError, match="is damaged"):
            past_runs.lines("c")
        with pytest.raises(UsageError, match=r"b cannot be shown: .*damaged"):
            past_runs.lines("b")
        assert ["problem" in one for one in past_runs.everything()] == [False, True, False]

    def test_whatever_is_damaged_in_a_certificate_is_no_bug(self, directory: Path) -> None:
        whole = json.loads(json.dumps(runs.ALL["success"]))
        for path in list(places(whole)):
            bad: object
            if path in {("run",), ("version",)}:
                continue
            inner = whole
            for key in path[:-1]:
                inner = inner[key]
            right = inner[path[-1]]
            for bad in (None, "x", -1, [], {}, 1e300):
                inner[path[-1]] = bad
                write(directory, "r", whole)
                for show in (past_runs.lines, lambda run: past_runs.write_page(run, os.devnull)):
                    with suppress(UsageError):
                        show("r")
                list(past_runs.overview())
            inner[path[-1]] = right

    def test_a_page_that_cannot_be_written(self, directory: Path) -> None:
        write(directory, "r", runs.ALL["success"])
        with pytest.raises(UsageError, match="the page cannot be written: Is a directory"):
            past_runs.write_page("r", str(directory))
