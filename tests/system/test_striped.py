"""A log whose records lie on several volumes in turn: its copy has all of them up to the instant, and none after."""

from __future__ import annotations

import os

import pytest

from tests.rig import Rig
from tests.system.support.runs.live import Programs, assert_nothing_left, borg_lvm_argv, tidy
from tests.system.support.runs.program import run
from tests.system.support.writers.striped import Log, judge, record
from tests.system.support.writers.turns import linear

RUNS = int(os.environ.get("BORG_LVM_RUNS", "2"))
PAUSE = 1.0  # seconds that are put before each snapshot of the control
pytestmark = pytest.mark.limit(300 + 60 * RUNS)  # seconds; a fraction of it on an idle machine


def log_over(rig: Rig) -> Log:
    """Return a log over three volumes."""
    return Log(tuple(volume.at / "log" for volume in linear(rig, 3) if volume.at), rig.path("told"))


def found(log: Log, command: str, *options: str, programs: Programs | None = None) -> list[str]:
    """Read the log while it is written, by a command for each file; return what is wrong with what was read."""
    acknowledged = log.acknowledged()
    paths = [word for file in log.files for word in ("--path", str(file.parent))]
    lines = "; echo =; ".join(command.format(file) for file in log.files)
    said = run(*borg_lvm_argv("run", *options, *paths, "--", "sh", "-ec", lines, programs=programs))
    wrong = judge(said.out.split("=\n"), acknowledged)
    print(*(wrong or ["clean"]), sep="\n")
    return wrong


def test_its_copy_has_all_records_up_to_one_instant(rig: Rig) -> None:
    with tidy():
        log = log_over(rig)
        with log.written():
            assert [found(log, "cat {}") for _ in range(RUNS)] == [[]] * RUNS
        assert_nothing_left(rig)


@pytest.mark.soak
def test_the_judge_sees_one_file_after_the_other(rig: Rig) -> None:
    programs = Programs(rig.path("programs"))
    programs.delay("lvm", PAUSE)
    with tidy():
        log = log_over(rig)
        with log.written():
            sequential = found(log, "cat {}", "--consistency", "per-volume", programs=programs)
            live = [word for file in log.files for word in ("--live", str(file))]
            lively = found(log, f"sleep {PAUSE}; cat {{}}", *live)
        assert "is missing" in " ".join(sequential)
        assert "is missing" in " ".join(lively)
        assert_nothing_left(rig)


def test_what_the_judge_sees() -> None:
    lines = [""]
    for number in range(1, 7):
        lines.append(record(number, lines[-1].partition(" ")[2]))
    files = ["\n".join(lines[start::3]) for start in (1, 2, 3)]
    assert judge(files, 6) == []
    assert judge(files, 7) == ["7 records were safe, 6 are there"]
    assert judge([files[0], lines[2], files[2]], 0) == ["of 5 records, number 5 is missing"]
    assert judge([files[1], files[0], files[2]], 0) == [f"record 1 is {lines[2]!r}"]
    assert judge([lines[1], "", ""], 1) == []
