"""Limits of what a drill starts: who takes all memory is ended, and that is said; its control group goes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.runs.live import assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import BIN, Said, borg_lvm, run, start

pytestmark = [pytest.mark.limit(900), pytest.mark.needs("borg")]
ROOT = Path("/sys/fs/cgroup")
OURS = ROOT / "borg-lvm-test"
LIMIT = 168 << 20
EATER = "#!/bin/sh\nexec head -c 240m /dev/zero >/dev/shm/eaten\n"
"""Not as memory of a process: a large one is ended by User Mode Linux itself, for want of mappings. And no more than it
takes: each page costs a guest as much as three system calls."""
SLEEPER = "#!/bin/sh\ntouch {data}/own/started; sleep 10000\n"


@pytest.fixture
def unit() -> Iterator[Path]:
    """Give a control group as a unit with a limit of its own has it."""
    if os.environ.get("BORG_LVM_LAB") != "guest":
        pytest.skip("it switches on a controller for the whole machine")
    before = (ROOT / "cgroup.subtree_control").read_text()
    (ROOT / "cgroup.subtree_control").write_text("+memory +cpu")
    OURS.mkdir()
    (OURS / "memory.max").write_text(str(LIMIT // 7 * 8))
    yield OURS
    OURS.rmdir()
    for name in {"memory", "cpu"} - set(before.split()):
        (ROOT / "cgroup.subtree_control").write_text(f"-{name}")


def judged_by(rig: Rig, text: str) -> tuple[Drills, list[str | Path]]:
    """Have a backup of an application that is judged by a script."""
    drills = Drills.made(rig)
    script = rig.path("judge")
    (drills.data / "own").mkdir()
    script.write_text(text.format(data=drills.data))
    script.chmod(0o755)
    options: dict[str, object] = {"quiesce": ["/usr/bin/true"], "resume": ["/usr/bin/true"]}
    options |= {"paths": [str(drills.data / "own")], "drill": [str(script)]}
    drills.applications.append({"plugin": "scripts", "name": "shop", "options": options})
    command = drills.command()
    drills.saved(command)
    return drills, command


def words(drills: Drills, command: list[str | Path]) -> list[str | Path]:
    where: list[str | Path] = ["--config", drills.config(), "--scratch", drills.rig.path("scratch")]
    return [BIN / "borg-lvm", "drill", *where, "--", *command]


def inside(unit: Path, drills: Drills, command: list[str | Path], status: int) -> Said:
    """Drill in a control group, as its only process."""
    script = f'echo $$ >{unit}/cgroup.procs; exec "$@"'
    said = run("sh", "-c", script, "sh", *words(drills, command), env=drills.environment, status=status)
    print(said.err)
    return said


def limits() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(borg_lvm("report", "--drill", "--json").out)["limits"]
    return found


def groups(above: Path) -> list[str]:
    return [path.name for path in above.iterdir() if path.is_dir() and path.name.startswith("borg-lvm-drill")]


def test_what_takes_too_much_memory_is_ended(rig: Rig, unit: Path) -> None:
    with tidy():
        drills, command = judged_by(rig, EATER)
        before = (ROOT / "cgroup.subtree_control").read_text()
        said = inside(unit, drills, command, 77)
        assert verdicts(said) == {"shop": "not judged"}
        assert "shop: not judged: it was ended, for it took more than the 168 MiB of memory" in said.err
        assert "judged with 168 MiB of memory and 1 processor at most" in said.err
        assert limits() == {"memory": LIMIT, "processors": 1, "why": None}
        assert groups(unit) == []
        assert (unit / "cgroup.subtree_control").read_text().split() == []
        said = drills.drill(command)  # in the topmost group it gets half of the machine's
        assert verdicts(said) == {"shop": "good"}
        assert limits()["memory"] > 2 * LIMIT
        assert groups(ROOT) == []
        assert (ROOT / "cgroup.subtree_control").read_text() == before
        assert_nothing_left(rig)


def test_beside_other_processes_there_is_no_limit_and_that_is_said(rig: Rig, unit: Path) -> None:
    with tidy():
        drills, command = judged_by(rig, "#!/bin/sh\nexit 0\n")
        with start(["sleep", "10000"]) as other:
            (unit / "cgroup.procs").write_text(str(other.pid))
            said = inside(unit, drills, command, 0)
            script = f'echo $$ >{unit}/cgroup.procs; exec "$@"'
            check = [BIN / "borg-lvm", "check", "--config", drills.config(), "--", *command]
            found = run("sh", "-c", script, "sh", *check, env=drills.environment, status=None).out
            other.kill()
        why = "other processes are in the control group /borg-lvm-test"
        assert f"judged without limits of memory and processors: {why}" in said.err
        assert limits() == {"memory": None, "processors": None, "why": why}
        assert f"one that is started from here has no limits of memory and processors: {why}" in " ".join(found.split())
        assert_nothing_left(rig)


@pytest.mark.parametrize("topmost", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_what_a_kill_leaves_of_the_group_is_cleaned(rig: Rig, unit: Path, *, topmost: bool) -> None:
    with tidy():
        drills, command = judged_by(rig, SLEEPER)
        home = ROOT if topmost else unit
        script = f'echo $$ >{home}/cgroup.procs; exec "$@"'
        before = (home / "cgroup.subtree_control").read_text()
        with start(["sh", "-c", script, "sh", *words(drills, command)], env=drills.environment) as drill:
            wait_for(lambda: list(rig.path("scratch").glob("*/0/tree/**/started")), "the judge")
            assert groups(home)
            drill.kill()
            drill.communicate(timeout=300)
        borg_lvm("clean")
        assert groups(home) == []
        assert (home / "cgroup.subtree_control").read_text() == before
        assert_nothing_left(rig)
