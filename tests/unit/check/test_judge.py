"""What `borg-lvm check` makes of what it has seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from borg_lvm.check import judge, probe, text
from borg_lvm.check.finding import Finding, Level
from borg_lvm.check.judge import Refused, Seen, Surroundings, Unnamed
from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.errors import QuiesceError, SourceError
from borg_lvm.machine.lvm import KEEP_TAG, RUN_TAG, TAG
from borg_lvm.planning.application_data import Kept, PlannedApplication
from borg_lvm.planning.space.usage_estimate import Once
from tests.unit.data import runs
from tests.unit.data.machine import GIB, MIB, VOLUME, Machine, pool, thin

GOOD = Seen(Surroundings(), {"lvm": "2.03.16", "dmsetup": "1.02.185"}, "6.12", volumes=(VOLUME,))


def found(seen: Seen, *levels: str) -> list[Finding]:
    return [one for one in judge.judge(seen) if one.level in (levels or ("warning", "error"))]


def only(seen: Seen) -> Finding:
    (one,) = found(seen)
    return one


def test_a_good_machine_has_nothing_to_complain_of() -> None:
    assert found(GOOD) == []
    assert text.works(judge.judge(GOOD))
    assert list(text.table(GOOD, judge.judge(GOOD)))[-1].startswith("A backup could work. Its sources were not")


@pytest.mark.parametrize(
    ("unnamed", "level", "words"),
    [
        (Unnamed("PG"), "note", "PG"),
        (Unnamed("PG", saved=("/a",)), "note", "PG: it is saved as a power cut would leave it"),
        (Unnamed("PG", missing=("/a: no",)), "warning", "PG: its data is not saved: /a: no"),
        (Unnamed("PG", saved=("/b",), missing=("/a: no",)), "warning", "PG: half of its data is not saved: /a: no"),
        (Unnamed("PG", unknown="no password"), "note", "PG: it does not report where its data is: no password"),
        (Unnamed("", unknown="a plugin failed"), "note", "a plugin failed"),
        (Unnamed("x.service", is_server=False, saved=("/a",)), "note", "x.service: it is saved as a power cut"),
    ],
)
def test_what_is_not_configured_is_told_with_what_discovers_it(unnamed: Unnamed, level: Level, words: str) -> None:
    (one,) = (one for one in found(changed(unnamed=(unnamed,)), "note", "warning") if one.about == "not configured")
    assert one.level == level
    assert one.message.startswith(words)
    assert ("borg-lvm discover" in one.remedy) is bool(unnamed.description)


def test_a_machine_that_would_not_boot_is_told() -> None:
    one = only(changed(unbootable="/boot/initrd.img-6.1"))
    assert (one.level, one.about) == ("warning", "kernel")
    assert one.message.startswith("/boot/initrd.img-6.1 has no dm-snapshot")
    assert "update-initramfs" in one.remedy


def test_it_says_what_is_read_back_and_recommends_it_where_it_could_be() -> None:
    planned = replace(runs.two(), proof=PlannedProof("list", 200, GIB, 60, (), 1))
    cases = ((planned, True, "ok", "read back: names"), (runs.two(), True, "note", "what is saved is not read back"))
    for plan, provable, level, words in cases:
        (one,) = (one for one in judge.judge(changed(plan=plan, provable=provable)) if one.about == "proof")
        assert (one.level, one.message.startswith(words)) == (level, True)
    assert not [one for one in judge.judge(changed(plan=runs.two())) if one.about == "proof"]


def test_a_service_that_writes_elsewhere_is_not_worth_a_word() -> None:
    assert found(changed(unnamed=(Unnamed("x.service", is_server=False, missing=("/a: no",)),))) == []


def changed(**fields: Any) -> Seen:
    return replace(GOOD, **fields)


def around(**fields: Any) -> Seen:
    return changed(surroundings=Surroundings(**fields))


def unruled() -> Seen:
    """A LUKS volume, and udev without our rule."""
    machine = Machine()
    machine.add("vg0/s")
    machine.luks("vg0/s", "s_crypt")
    machine.mount("/s", "s_crypt")
    made = machine.plan(machine.resolve("/s"), key_files={"vg0/s": ""})
    return changed(plan=made, surroundings=Surroundings(unruled=True))


@pytest.mark.parametrize(
    ("seen", "level", "words", "remedy"),
    [
        (changed(versions={"lvm": "", "dmsetup": "1"}), "error", "not installed", "install the package"),
        (changed(versions={"lvm": "2.02.187", "dmsetup": "1"}), "error", "older than 2.03", "upgrade lvm2"),
        (around(root=False), "error", "we are not root", "run it as root"),
        (around(capabilities=~(1 << 21)), "error", "CAP_SYS_ADMIN is missing", "CapabilityBoundingSet="),
        (around(capabilities=~(1 << 14)), "error", "CAP_IPC_LOCK is missing", "CapabilityBoundingSet="),
        (around(mapper=False), "error", "cannot be opened", "PrivateDevices=no"),
        (around(mapper=False, mapper_known=False), "error", "no device-mapper", "modprobe dm_mod"),
        (around(read_only=("/run/x",)), "error", "/run/x cannot be written", "ReadWritePaths=/run/x"),
        (around(namespace="Operation not permitted"), "error", "no private mount namespace", "RestrictNamespaces=no"),
        (unruled(), "warning", "links of udev's by content", "borg-lvm setup --write"),
        (changed(no_snapshots=("it cannot make snapshots", "reboot")), "error", "cannot make snapshots", "reboot"),
        (changed(configuration=Refused("bad", remedy="chmod")), "error", "bad", "chmod"),
        (changed(still=("r",), dead=("r",), volumes=None), "error", "still suspended", "borg-lvm clean"),
        (changed(dead=("r",)), "warning", "leftovers of interrupted run", "borg-lvm clean"),
        (changed(volumes=None, unlisted=Refused("lvs failed")), "error", "lvs failed", ""),
        (changed(volumes=()), "error", "no logical volume", "lvs --all"),
        (changed(volumes=(replace(VOLUME, vg_free=0),)), "warning", "no free space", "vgextend vg0"),
        (changed(volumes=(thin(VOLUME), pool(data=90.0))), "warning", "90.0 % of its data; from 95", "lvextend --size"),
        (changed(volumes=(thin(VOLUME), pool(metadata=96.0))), "warning", "96.0 % of its metadata", "extend the pool"),
        (changed(history_trouble="cannot be read"), "warning", "cannot be read", ""),
        (changed(damaged=("x.json",)), "warning", "damaged: x.json", "sets it aside"),
        (changed(refused=Refused("no", ("/boot: not on LVM",))), "error", "no", ""),
        (changed(refused=Refused("held by run x", passing=True)), "warning", "held by run x", ""),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_told_with_its_remedy(seen: Seen, level: str, words: str, remedy: str) -> None:
    one = only(seen)
    assert one.level == level
    assert words in one.message
    assert remedy in one.remedy
    assert text.works(judge.judge(seen)) is (level != "error")
    conclusion = list(text.table(seen, judge.judge(seen)))[-1]
    assert conclusion == "A backup would not work: 1 error." or "with 1 warning" in conclusion


def test_what_is_well_is_no_fault() -> None:
    assert found(around(capabilities=~(1 << 2))) == []  # to override all permissions is more than to read all
    assert found(changed(volumes=(replace(thin(VOLUME), vg_free=0), replace(pool(), vg_free=0)))) == []
    assert [one.level for one in judge.judge(around(filtered=True)) if one.about == "sandbox"] == ["note"]


def test_a_refusal_is_told_whole() -> None:
    seen = changed(refused=Refused("cannot freeze", ("/a: x", "/b: y"), remedy="do"))
    assert [(one.message, one.details, one.remedy) for one in found(seen)] == [
        ("cannot freeze", ("/a: x", "/b: y"), "do")
    ]
    lines = list(text.table(seen, judge.judge(seen), quiet=True))
    assert [line.split(maxsplit=2)[-1] for line in lines[:1]] == ["cannot freeze"]
    assert [line.strip() for line in lines[1:4]] == ["/a: x", "/b: y", "-> do"]


def test_what_a_silent_program_said_is_no_line() -> None:
    seen = changed(refused=probe.refused(QuiesceError("hook failed with status 3", details=("", " "))))
    assert len(list(text.table(seen, judge.judge(seen), quiet=True))) == 3


def test_quiet_shows_what_is_wrong_only() -> None:
    seen = changed(dead=("r",))
    assert list(text.table(GOOD, judge.judge(GOOD), quiet=True)) == []
    assert len(list(text.table(seen, judge.judge(seen), quiet=True))) == 4


def test_kept_snapshots_are_named() -> None:
    kept = replace(VOLUME, name="s", tags=(TAG, f"{RUN_TAG}r", KEEP_TAG), data_percent=41.5, attr="swi-a-s---")
    (one,) = [one for one in found(changed(volumes=(VOLUME, kept)), "warning") if one.about == "leftovers"]
    assert "vg0/s (42 % full)" in one.message
    assert one.remedy == "borg-lvm clean --run r"
    seen = changed(volumes=(VOLUME, kept))
    assert "42 % full" in next(text.table(seen, judge.judge(seen), quiet=True))
    lean = replace(thin(kept), tags=kept.tags, data_percent=None)
    assert [one.level for one in judge.judge(changed(volumes=(VOLUME, lean))) if one.about == "leftovers"] == ["note"]


def test_a_group_without_room_is_told_once_and_not_that_nothing_was_done() -> None:
    details = ("volume group vg0 has 0 B free; snapshots of home with size auto need at least 32.0 MiB: add a disk",)
    error = SourceError("cannot freeze every source path; nothing was done", details=details)
    full = replace(VOLUME, vg_free=0)
    one = only(changed(volumes=(full,), refused=probe.refused(error)))
    assert (one.level, one.message, one.details) == ("error", "cannot freeze every source path", details)
    other = changed(volumes=(full, replace(full, vg="vg1", vg_uuid="1")), refused=probe.refused(error))
    assert [one.about for one in found(other, "warning")] == ["group vg1"]


def test_what_it_would_be_worth() -> None:
    seen = changed(plan=runs.plan())
    last = list(text.table(seen, judge.judge(seen)))[-1]
    assert "vg0/home, vg1/srv at one instant; db at level checkpoint; read live: " in last
    data = text.data(seen, judge.judge(seen))
    assert data["works"] is True
    assert data["plan"]["snapshots"][0]["volume"] == "vg0/home"
    seen = changed(plan=runs.plan("per-volume"))
    assert "an instant of its own" in only(seen).message
    bare = changed(plan=replace(runs.plan(), applications=()))
    assert "as a power cut would have left them" in list(text.table(bare, judge.judge(bare)))[-1]


def test_data_of_an_application_that_no_source_covers() -> None:
    kept = (Kept("/db", "data", "vg0/home"), Kept("/wal", "log", "", "the command does not read it"))
    plan = replace(
        runs.plan(), applications=(PlannedApplication("db", "postgresql", "checkpoint", "does", "15", kept),)
    )
    assert only(changed(plan=plan)).message == "not saved: /wal: the command does not read it"


def measured(needed: int, size: int, *, limit: int = 12 * GIB, free: int = 10 * GIB, **fields: Any) -> Seen:
    """A snapshot of so many bytes, after a run that has used so many."""
    plan = runs.plan()
    snapshot = plan.snapshots[0]
    snapshot = replace(
        snapshot, size=size, extents=size // MIB, limit=limit, origin=replace(snapshot.origin, vg_free=free)
    )
    known = {snapshot.origin.uuid: (Once(600.0, needed, fields.pop("space", size), **fields),)}
    return changed(plan=replace(plan, snapshots=(snapshot, *plan.snapshots[1:])), past=known)


def sized(needed: int, size: int, **fields: Any) -> list[Finding]:
    """What is said of such a one."""
    return [one for one in judge.judge(measured(needed, size, **fields)) if one.about == "vg0/home"]


def test_a_size_is_judged_by_what_past_runs_have_needed() -> None:
    assert [one.level for one in sized(1 * GIB, 2 * GIB)] == ["ok"]
    (grows,) = sized(3 * GIB, 2 * GIB)
    assert grows.level == "note"
    assert "would have to grow" in grows.message
    (small,) = sized(3 * GIB, 2 * GIB, free=2 * GIB)  # all of it is what the snapshot takes
    assert small.level == "warning"
    assert "is too small" in small.message
    assert small.remedy == (
        "in the configuration, snapshot: {volumes: [{volume: vg0/home, size: 4608M}]}, "
        "for which vg0 needs 2560 MiB more free space (vgextend)"
    )
    assert "vgextend" in small.remedy
    assert [one.level for one in sized(3 * GIB, 2 * GIB, limit=2 * GIB)] == ["warning"]


def test_a_group_with_less_space_than_auto_would_take_is_noted_unless_a_finding_has_the_remedy() -> None:
    def notes(seen: Seen) -> list[Finding]:
        plan = seen.plan
        assert plan
        first, *others = plan.snapshots
        short = replace(plan, snapshots=(replace(first, wanted=11 * GIB), *others))
        return [one for one in judge.judge(replace(seen, plan=short)) if "should have" in one.message]

    (note,) = notes(measured(1 * GIB, 2 * GIB))
    assert (note.level, note.about) == ("note", "group vg0")
    assert note.message.startswith("it has 10.0 GiB free, less than the 11.0 GiB that the snapshot of home should have")
    assert "vgextend vg0 DEVICE" in note.remedy
    assert notes(measured(1 * GIB, 2 * GIB, free=11 * GIB)) == []
    assert notes(measured(3 * GIB, 2 * GIB)) == []


def test_a_lost_snapshot_is_told_once_with_the_size_that_the_run_has_named() -> None:
    lost: dict[str, Any] = {"lost": True, "wanted": 212 * MIB, "written": 38 * MIB, "space": 16 * MIB}
    (one,) = sized(8 * MIB, 16 * MIB, free=40 * MIB, **lost)
    assert (one.level, one.message) == (
        "warning",
        "16.0 MiB for its snapshot; the last run has lost one of 16.0 MiB, which was too small "
        "(38.0 MiB were written by the end)",
    )
    assert one.remedy == (
        "in the configuration, snapshot: {volumes: [{volume: vg0/home, size: 212M}]}, "
        "for which vg0 needs 172 MiB more free space (vgextend)"
    )
    seen = measured(8 * MIB, 16 * MIB, free=40 * MIB, **lost)
    assert list(text.table(seen, judge.judge(seen)))[-1].startswith("It may fail again as the last run did, which has")
    mended = measured(8 * MIB, 212 * MIB, **lost)
    assert [one.level for one in judge.judge(mended) if one.about == "vg0/home"] == ["ok"]
    assert list(text.table(mended, judge.judge(mended)))[-1].startswith("The backup would work: ")


def test_a_loss_of_an_older_record_wants_twice_what_it_had() -> None:
    (one,) = sized(4 * GIB, 4 * GIB, lost=True)
    assert "{volume: vg0/home, size: 8192M}" in one.remedy


def test_one_that_was_lost_without_being_full_is_not_to_be_larger() -> None:
    (one,) = sized(8 * MIB, 16 * MIB, lost=True, wanted=16 * MIB)
    assert (one.level, one.message) == ("warning", "the last run has lost its snapshot, which was not full")
    assert "dmesg" in one.remedy


def test_escapes_in_names_are_shown() -> None:
    seen = changed(refused=Refused("x", ("/a\x1b[2J\n: no",)))
    assert not [line for line in text.table(seen, judge.judge(seen)) if "\x1b" in line or "\n" in line]
