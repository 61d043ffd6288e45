"""Which of an application's data is in a run, and what is refused because of what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from borg_lvm.config.sections import Coverage
from borg_lvm.planning.application_data import (
    DataCoverage,
    Kept,
    PlannedApplication,
    ProbedApplication,
    logs,
    too_late,
)
from borg_lvm.planning.plan import Plan
from borg_lvm.plugins.application import DataPath, Probe
from tests.unit.data.machine import Machine, device, directories

DATA, SPACE = "/var/lib/pg/data", "/space/far"


def server() -> Machine:
    """/, /var and /space on volumes, /more on one too, /tmp in memory; /pg shows the data by a bind mount."""
    machine = Machine()
    machine.mount("/var", "vg0/var", fstype="xfs")
    machine.mount("/space", "vg0/space")
    machine.mount("/more", "vg0/more")
    machine.other("/tmp", "tmpfs")
    machine.mount("/pg", "vg0/var", root="/lib/pg", fstype="xfs")
    return machine


def asked(*paths: str, coverage: Coverage = "whole", still: bool = False, apart: bool = False) -> ProbedApplication:
    probe = Probe("15", tuple(DataPath(path, "data") for path in paths))
    real = tuple("" if path.startswith("/missing") else path for path in paths)
    return ProbedApplication("db", "pg", "lock", "locks", coverage, probe, real, still, apart)


def judge(
    question: ProbedApplication,
    *sources: str,
    live: tuple[str, ...] = (),
    consistency: str = "instant",
    machine: Machine | None = None,
) -> tuple[PlannedApplication, list[str]]:
    machine = machine or server()
    resolved = machine.resolve(*sources, declared=directories(*live))
    plan = machine.plan(resolved)
    volumes = {
        view_mount.target: plan.snapshots[view_mount.snapshot].origin.full_name for view_mount in plan.view_mounts
    }
    coverage = DataCoverage(resolved, machine.table(), volumes, consistency)
    covered = coverage.planned(question)
    return covered, list(coverage.problems(question, covered))


@pytest.mark.parametrize("source", ["/var", DATA, "/pg", "/"])
def test_what_lies_below_a_source_is_kept_whatever_way_leads_there(source: str) -> None:
    covered, problems = judge(asked(DATA), source)
    assert [kept.volume for kept in covered.kept] == ["vg0/var"]
    assert problems == []


def test_data_that_is_seen_through_a_bind_mount() -> None:
    covered, problems = judge(asked("/pg/data"), "/var")
    assert (covered.kept[0].volume, problems) == ("vg0/var", [])


def test_a_device_is_kept_by_whatever_name_it_has() -> None:
    """As the disk of a virtual machine, which a source names by another of its names."""
    machine = server()
    machine.other("/dev", "devtmpfs")
    machine.add("vg0/disk")
    machine.add("vg0/second")
    nodes = [device(f"/dev/dm-{name}", machine.on[f"vg0/{name}"]) for name in ("disk", "second")]
    probe = Probe("", (DataPath("/dev/vg0/disk", "disk"), DataPath("/dev/mapper/vg0-second", "disk")))
    question = replace(
        asked("/dev/vg0/disk", "/dev/mapper/vg0-second"), probe=probe, devices=tuple(one.device for one in nodes)
    )
    resolved = machine.resolve(nodes[0])
    plan = machine.plan(resolved)
    volumes = {
        view_mount.target: plan.snapshots[view_mount.snapshot].origin.full_name for view_mount in plan.view_mounts
    }
    coverage = DataCoverage(resolved, machine.table(), volumes, "instant")
    covered = coverage.planned(question)
    assert [(kept.volume, kept.missing) for kept in covered.kept] == [
        ("vg0/disk", ""),
        ("", "the command does not read this device"),
    ]
    (problem,) = coverage.problems(question, covered)
    assert "a part of its data is not in this run: /dev/mapper/vg0-second (disk): the command does not" in problem


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (SPACE, "it lies on /dev/dm-2 (/space), which is not in this run"),
        ("/var/other", "the command does not read it"),
        ("/var/lib/pg", "the command does not read it"),
        ("/missing", "it is not there"),
        ("/tmp/socket", "it lies on none (/tmp), which is not in this run"),
    ],
)
def test_what_is_missing_is_named_with_the_reason(path: str, why: str) -> None:
    covered, problems = judge(asked(DATA, path), DATA)
    assert covered.kept[1].missing == why
    assert problems == [
        f"db: a part of its data is not in this run: {path} (data): {why}; name it as a source, or allow it with "
        "`coverage: partly`"
    ]


def test_what_stays_live_is_missing_also_when_it_lies_inside() -> None:
    covered, _ = judge(asked(DATA), "/var", live=(f"{DATA}/log",))
    assert "stays live" in covered.kept[0].missing
    covered, _ = judge(asked(f"{DATA}/log/a"), "/var", live=(f"{DATA}/log",))
    assert "stays live" in covered.kept[0].missing
    covered, problems = judge(asked(DATA), "/var", live=("/var/cache",))
    assert (covered.kept[0].missing, problems) == ("", [])


def test_another_file_system_mounted_inside_is_missing() -> None:
    machine = server()
    machine.other(f"{DATA}/pg_stat_tmp", "tmpfs")
    covered, _ = judge(asked(DATA), "/var", live=(f"{DATA}/pg_stat_tmp",), machine=machine)
    assert covered.kept[0].missing
    machine = server()
    machine.mount(f"{DATA}/inner", "vg0/inner")
    resolved = machine.resolve("/var", one_file_system=True)
    covered = DataCoverage(resolved, machine.table(), {"/var": "vg0/var"}, "instant").planned(asked(DATA))
    assert covered.kept[0].missing == f"another file system is mounted at {DATA}/inner, which is not in this run"


@pytest.mark.parametrize(
    ("coverage", "partly", "nothing"), [("whole", True, True), ("partly", False, True), ("any", False, False)]
)
def test_how_much_must_be_there(coverage: Coverage, partly: bool, nothing: bool) -> None:
    _, problems = judge(asked(DATA, SPACE, coverage=coverage), "/var")
    assert bool(problems) == partly
    _, problems = judge(asked(DATA, SPACE, coverage=coverage), "/more")
    assert bool(problems) == nothing
    assert not problems or "none of its data is among the sources" in problems[0]


def test_data_of_several_instants_is_refused_unless_nothing_is_written() -> None:
    question = asked(DATA, SPACE)
    assert judge(question, "/var", "/space")[1] == []
    (problem,) = judge(question, "/var", "/space", consistency="per-volume")[1]
    assert "vg0/space and vg0/var, which must be of one instant" in problem
    assert judge(asked(DATA, SPACE, still=True), "/var", "/space", consistency="per-volume")[1] == []
    assert judge(asked(DATA), "/var", "/space", consistency="per-volume")[1] == []


def test_an_application_that_tells_of_nothing_is_left_alone() -> None:
    assert judge(asked(), "/var")[1] == []


def test_a_level_for_several_instants_is_for_no_other() -> None:
    question = asked(DATA, SPACE, apart=True)
    assert judge(question, "/var", "/space", consistency="per-volume")[1] == []
    for told in (
        judge(question, "/var", "/space")[1],
        judge(asked(DATA, apart=True), "/var", "/space", consistency="per-volume")[1],
    ):
        assert len(told) == 1
        assert told[0].startswith("db: its level lock is for volumes of several instants (`consistency: per-volume`)")


def test_a_log_that_is_saved_last_has_a_volume_of_its_own() -> None:
    data, log = Kept("/data", "data", "vg0/data"), Kept("/log", "WAL", "vg0/log", after=True)
    apart = PlannedApplication("db", "pg", "backup-mode", "", "15", (data, log))
    assert Plan("run", (), (), (), (), ("/data",), "per-volume", applications=(apart,)).late == {"vg0/log"}
    assert list(too_late([apart])) == []
    other = PlannedApplication("mail", "scripts", "lock", "", "1", (Kept("/mail", "mail", "vg0/log"),))
    (told,) = too_late([apart, other])
    assert told.startswith(
        "db: its WAL (/log) is saved last, and must lie on a volume of its own for that; /mail (mail,"
    )
    together = replace(apart, kept=(replace(data, volume="vg0/log"), log))
    (told,) = too_late([together])
    assert "/data (db, data) lies on vg0/log too" in told


def test_a_volume_that_holds_data_as_well_is_none_of_logs() -> None:
    data, log = Kept("/data", "data", "vg0/data"), Kept("/log", "WAL", "vg0/log", log=True)
    inside = Kept("/data/log", "log", "vg0/data", log=True)
    missing = Kept("/far", "log", "", "not in this run", log=True)
    one = PlannedApplication("db", "pg", "checkpoint", "", "15", (data, log, inside, missing))
    assert logs([one]) == {"vg0/log"}
    other = PlannedApplication("mail", "scripts", "lock", "", "1", (Kept("/mail", "mail", "vg0/log"),))
    assert logs([one, other]) == {"vg0/log"}
    crossed = (Kept("/b", "data", "vg0/log"), Kept("/b/log", "WAL", "vg0/data", log=True))
    assert logs([one, replace(other, kept=crossed)]) == frozenset()


def test_what_is_said_of_a_path_is_kept() -> None:
    question = replace(asked(DATA), probe=Probe("15", (DataPath(DATA, "WAL", after=True, log=True),)))
    (kept,) = judge(question, "/var")[0].kept
    assert (kept.after, kept.log) == (True, True)


def test_where_in_its_volume_a_path_lies() -> None:
    covered, _ = judge(asked("/pg/data"), "/var")
    assert (covered.kept[0].volume, covered.kept[0].inside) == ("vg0/var", "/lib/pg/data")


def test_volumes_that_are_mounted_below_its_data_count() -> None:
    machine = server()
    machine.mount(f"{DATA}/base", "vg0/base")
    covered, problems = judge(asked(DATA), "/var", consistency="per-volume", machine=machine)
    assert covered.kept[0].nested == ("vg0/base",)
    assert "its data lies on vg0/base and vg0/var, which must be of one instant" in problems[0]
    assert judge(asked(DATA, apart=True), "/var", consistency="per-volume", machine=machine)[1] == []


def test_a_log_that_is_mounted_below_the_data_is_saved_last() -> None:
    log = Kept("/data/wal", "WAL", "vg0/log", after=True)
    one = PlannedApplication(
        "db", "pg", "backup-mode", "", "15", (Kept("/data", "data", "vg0/data", nested=("vg0/log",)), log)
    )
    assert list(too_late([one])) == []
    above = PlannedApplication(
        "shop", "scripts", "lock", "", "1", (Kept("/", "all", "vg0/root", nested=("vg0/data", "vg0/log")),)
    )
    (told,) = too_late([one, above])
    assert "/ (shop, all) lies on vg0/log too" in told


def test_nothing_may_be_missing_where_the_parts_are_put_together() -> None:
    question = asked(DATA, SPACE, "/more/wal", coverage="partly", apart=True)
    (told,) = judge(question, "/var", "/space", consistency="per-volume")[1]
    assert "at the level lock nothing can be restored without" in told
    assert judge(asked(DATA, coverage="any", apart=True), "/more", consistency="per-volume")[1] == []
