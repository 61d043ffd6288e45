"""When `borg-lvm check` warns of an application that was not restored for too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.check import drill_findings, drilled
from borg_lvm.check.drill_findings import DAY, Drills
from borg_lvm.check.finding import Level
from borg_lvm.config.schema import Settings
from borg_lvm.config.sections import DrillSettings
from borg_lvm.log import Log
from borg_lvm.state import directories, drills, history
from tests.unit.data import drilled as data
from tests.unit.data import runs

NOW = 2e9


def days(number: float) -> dict[str, float]:
    return {"shop": NOW - number * DAY}


def judged(warn_after: float = 31, **known: Any) -> tuple[Level, str, str]:
    (one,) = drill_findings.findings(Drills(("shop",), now=NOW, warn_after=warn_after * DAY, **known))
    assert one.about == "shop"
    return one.level, one.message, one.remedy


@pytest.mark.parametrize(
    ("known", "level", "words"),
    [
        ({"good": days(0.5)}, "ok", "its last good drill was less than a day ago"),
        ({"good": days(1.5)}, "ok", "its last good drill was a day ago"),
        ({"good": days(31)}, "ok", "31 days ago"),
        ({"good": days(31.1)}, "warning", "its last good drill was 31 days ago"),
        ({"good": days(40)}, "warning", "40 days ago"),
        ({}, "note", "it has had no drill yet"),
        ({"saved": days(30)}, "note", "it has had no drill yet"),
        ({"saved": days(32)}, "warning", "it was first saved 32 days ago, and has had no good drill yet"),
        ({"saved": days(99), "good": days(3)}, "ok", "3 days ago"),
        ({"good": days(3), "bad": {"shop": "D"}}, "warning", "its last drill has found something wrong"),
    ],
)
def test_by_what_is_known(known: dict[str, Any], level: Level, words: str) -> None:
    found = judged(**known)
    assert found[0] == level
    assert words in found[1]
    assert found[2] == (
        "" if level == "ok" else "borg-lvm report D" if "bad" in known else "borg-lvm drill shop -- COMMAND …"
    )


def test_the_configuration_decides_how_long_is_too_long() -> None:
    assert judged(7, good=days(8))[0] == "warning"
    assert judged(9, good=days(8))[0] == "ok"
    assert list(drill_findings.findings(Drills(("shop",), now=NOW, saved=days(999)))) == []  # 0: never


def test_what_was_found_wrong_is_a_warning_however_long_is_allowed() -> None:
    assert judged(0, bad={"shop": "D"})[0] == "warning"


class Named:
    """Stands for the configured applications, of which only the names are asked for."""

    drillable = ("db", "shop")


def test_it_reads_what_drills_and_runs_have_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "ABOVE", (str(tmp_path),))
    for module in (drills, history):
        monkeypatch.setattr(module, "DIRECTORY", str(tmp_path / module.__name__))
    settings = Settings(drill=DrillSettings(7))
    assert drilled.look(settings, None) == Drills()
    nothing = drilled.look(settings, Named())  # type: ignore[arg-type]
    assert (nothing.good, nothing.bad, nothing.saved) == ({}, {}, {})
    drills.keep(data.ALL["good"], Log(quiet=True))
    drills.keep({**data.ALL["bad"], "drill": "20240108T040000-abcdef"}, Log(quiet=True))
    Path(history.DIRECTORY).mkdir(mode=0o700)
    for name, kind, begin in (("1", "tainted", 1.0), ("2", "success", 2.0), ("3", "success", 3.0)):
        text = json.dumps({"version": 1, "certificate": {**runs.ALL[kind], "begin": begin}})
        (Path(history.DIRECTORY) / f"{name}.json").write_text(text)
    (Path(history.DIRECTORY) / "0.json").write_text("{")
    found = drilled.look(settings, Named())  # type: ignore[arg-type]
    assert found.good["shop"] == data.ALL["good"]["end"]
    assert found.bad == {"shop": "20240108T040000-abcdef"}
    assert found.saved == {"db": 2.0}
    assert found.warn_after == 7 * DAY
