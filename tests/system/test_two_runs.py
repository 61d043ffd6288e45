"""More than one run at a time, and runs beside what dead ones have left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import (
    Gate,
    Programs,
    Run,
    assert_nothing_left,
    is_alive,
    ledgers,
    processes,
    tidy,
    usual_signals,
    wait_for,
)
from tests.system.support.runs.program import borg_lvm, run, start
from tests.system.support.states.building import configured
from tests.system.support.states.disk_states import with_namesake


@pytest.fixture
def one(rig: Rig) -> Iterator[Volume]:
    """Give a volume with a file, for runs that a failed test need not end itself."""
    with tidy(), usual_signals():
        made = rig.volume("one", fs="ext4", at=rig.path("one"))
        assert made.at
        (made.at / "file").write_text("old")
        yield made


def held(rig: Rig, volume: Volume, name: str = "held") -> tuple[Run, Gate]:
    """Start a run whose command waits at a gate and then shows what it sees."""
    gate = Gate(rig.directory, name)
    live = Run("run", "--path", str(volume.at), "--", "sh", "-c", f"{gate.shell}; cat {volume.at}/file")
    gate.reached(process=live.process)
    return live, gate


def snapshots() -> set[str]:
    return set(run("lvs", "--noheadings", "-o", "lv_full_name", "@borg_lvm").out.split())


def test_two_volumes_at_once(rig: Rig, one: Volume) -> None:
    two = rig.volume("two", fs="xfs", at=rig.path("two"))
    (rig.path("two") / "file").write_text("old")
    first, gate = held(rig, one)
    second, other = held(rig, two, "other")
    assert len(snapshots()) == 2, "the runs do not overlap"
    for volume in (one, two):
        (rig.path(volume.name) / "file").write_text("new")
    other.open()
    assert second.end().out == "old"
    assert len(snapshots()) == 1, "the end of one run must leave the other's snapshot alone"
    gate.open()
    assert first.end().out == "old"
    assert_nothing_left(rig)


def test_same_volume(rig: Rig, one: Volume) -> None:
    first, gate = held(rig, one)
    (rig.path("one") / "file").write_text("new")
    refused = borg_lvm("run", "--path", rig.path("one"), "--", "touch", rig.path("ran"), status=75)
    for words in (f"{one.full_name} is being backed up by another run", first.id(), f"pid {first.pid}", "--lock-wait"):
        assert words in refused.err
    assert not rig.path("ran").exists()
    planned = borg_lvm("plan", "--path", rig.path("one"), "--", "true")
    assert f"another run: run {first.id()}" in planned.out
    assert "75" in planned.out

    waiting = Run("run", "--lock-wait", "60", "--path", rig.path("one"), "--", "cat", rig.path("one") / "file")
    waiting.step("owner")
    assert waiting.process.poll() is None
    assert len(snapshots()) == 1, "it must not make its snapshot before it has the lock"
    gate.open()
    assert first.end().out == "old"
    assert waiting.end().out == "new"

    first, gate = held(rig, one, "again")
    late = borg_lvm("run", "--lock-wait", "1", "--path", rig.path("one"), "--", "true", status=75)
    assert first.id() in late.err
    assert "it was waited for 1 s, as --lock-wait says" in late.err
    gate.open()
    first.end()
    assert_nothing_left(rig)


def test_who_is_killed_while_it_waits_leaves_no_shell(rig: Rig, one: Volume) -> None:
    """LVM's shell, which the survey has opened, waits with it, and ends by itself."""
    first, gate = held(rig, one)
    waiting = Run("run", "--lock-wait", "60", "--path", rig.path("one"), "--", "true")
    waiting.step("owner")
    shells = [pid for pid, words in processes().items() if os.path.basename(words.partition(" ")[0]) == "lvm"]
    assert shells, "none waits, so nothing is proven"
    waiting.kill()
    wait_for(lambda: not any(map(is_alive, shells)), "the end of its shell")
    gate.open()
    first.end()
    borg_lvm("clean")
    assert_nothing_left(rig)


def test_same_volume_in_the_window(rig: Rig, one: Volume) -> None:
    two = rig.volume("two", fs="ext4", at=rig.path("two"))
    config = rig.path("config.yaml")
    config.write_text("deadline: 60\n")
    programs = Programs(rig.path("programs"))
    gate, command = programs.stop_window(), Gate(rig.directory, "first")
    paths = ["--path", str(one.at), "--path", str(two.at)]
    first = Run("run", "--config", config, *paths, "--", "sh", "-c", command.shell, programs=programs)
    gate.reached(process=first.process)
    # LVM waits for its lock, and for no longer than the window lasts.
    others = {verb: Run(verb, *paths, "--", "touch", rig.path("ran")) for verb in ("plan", "run")}
    time.sleep(2)
    assert [other.process.poll() for other in others.values()] == [None, None]
    gate.open()
    for verb, status in (("plan", 0), ("run", 75)):
        said = others[verb].end(status)
        assert "is being backed up by another run" in said.out + said.err
        assert first.id() in said.out + said.err
    waiting = Run("run", "--lock-wait", "120", "--config", config, *paths, "--", "true")
    time.sleep(3)
    assert waiting.process.poll() is None
    command.open()
    assert first.end().status == 0
    assert waiting.end().status == 0
    assert not rig.path("ran").exists()
    assert_nothing_left(rig)


@pytest.mark.parametrize("signum", [pytest.param(signal.SIGINT, marks=pytest.mark.soak), signal.SIGTERM])
def test_waiting_can_be_ended(rig: Rig, one: Volume, signum: signal.Signals) -> None:
    first, gate = held(rig, one)
    waiting = Run("run", "--lock-wait", "3600", "--path", rig.path("one"), "--", "touch", rig.path("ran"))
    waiting.step("owner")
    waiting.kill(signum)
    said = waiting.end(128 + signum)
    assert signum.name in said.err
    assert not rig.path("ran").exists()
    gate.open()
    assert first.end().out == "old"
    assert_nothing_left(rig)


def test_clean_beside_a_live_run(rig: Rig, one: Volume) -> None:
    first, gate = held(rig, one)
    before, known = snapshots(), ledgers()
    assert len(before) == 1
    assert "nothing to clean" in borg_lvm("clean").err
    assert "is still running" in borg_lvm("clean", "--run", first.id(), status=64).err
    assert snapshots() == before
    # It may have written on meanwhile: a snapshot grows when the file system has something to do by itself.
    assert {run_id: steps[: len(known[run_id])] for run_id, steps in ledgers().items()} == known
    gate.open()
    assert first.end().out == "old"
    assert_nothing_left(rig)


def test_dead_run_is_cleaned_first(rig: Rig, one: Volume) -> None:
    dead, _ = held(rig, one)
    dead.kill()
    dead.end(-signal.SIGKILL)
    left = snapshots()
    assert len(left) == 1
    said = borg_lvm(
        "run",
        "--path",
        rig.path("one"),
        "--",
        "sh",
        "-c",
        f"lvs --noheadings -o lv_full_name @borg_lvm >{rig.path('seen')}",
    )
    seen = set(rig.path("seen").read_text().split())
    assert len(seen) == 1, "the command saw more than its own run's snapshot"
    assert seen != left
    assert dead.process.pid
    assert f"released what run {next(iter(left)).split('borg_lvm-')[1].rsplit('-', 1)[0]} had left" in said.err
    assert_nothing_left(rig)


@pytest.mark.soak
def test_dead_snapshot_that_somebody_has_mounted(rig: Rig, one: Volume) -> None:
    """Who looks at what a dead run has left sees it in every process of the machine: none of them may be ended."""
    dead, _ = held(rig, one)
    dead.kill()
    dead.end(-signal.SIGKILL)
    (left,) = snapshots()
    rig.path("look").mkdir()
    bystander = start(["sleep", "1000"])
    run("mount", "-o", "ro", f"/dev/mapper/{left.replace('-', '--').replace('/', '-')}", rig.path("look"))
    try:
        said = borg_lvm("clean", status=76)
        assert f"umount {rig.path('look')}" in said.err
        assert f"snapshot {left}" in said.err
        assert is_alive(bystander.pid)
        assert snapshots() == {left}
    finally:
        bystander.kill()
        bystander.wait()
        run("umount", rig.path("look"))
    borg_lvm("clean")
    assert_nothing_left(rig)


@pytest.mark.soak
def test_a_group_of_the_same_name_that_comes_during_a_run(rig: Rig) -> None:
    """As when a clone's disk is plugged in: LVM does nothing by that name, and the snapshot is removed all the same."""
    group, plug_in = with_namesake(rig)
    with tidy(), usual_signals():
        volume = rig.volume("one", fs="ext4", mib=32, at=rig.path("one"), group=group)
        (rig.path("one") / "file").write_text("old")
        live, gate = held(rig, volume)
        plug_in()
        try:
            gate.open()
            assert live.end().out == "old"
            assert snapshots() == set()
        finally:
            plug_in(b"")
        assert_nothing_left(rig)


@pytest.mark.soak
def test_a_snapshot_grows_beside_a_group_of_the_same_name(rig: Rig) -> None:
    """LVM extends nothing by a name that two groups have, unless it sees the disks of one alone."""
    group, plug_in = with_namesake(rig)
    with tidy(), usual_signals():
        volume = rig.volume("one", fs="ext4", mib=64, at=rig.path("one"), group=group)
        (rig.path("one") / "file").write_text("old")
        config, gate = rig.path("config.yaml"), Gate(rig.directory, "grown")
        config.write_text("snapshot: {size: 8M}\n")
        words = ("--path", str(volume.at), "--", "sh", "-c", f"{gate.shell}; cat {volume.at}/file")
        live = Run("run", "--config", config, *words)
        gate.reached(process=live.process)
        configured('devices { hints = "none" }')  # by which LVM may look at the disks of one group alone
        plug_in()
        try:
            with (rig.path("one") / "more").open("wb", buffering=0) as file:
                file.write(os.urandom(5 << 20))
                os.fsync(file.fileno())
            wait_for(lambda: _room() > 8 << 11, "the snapshot to grow")
            gate.open()
            said = live.end()
            print(said.err)
            assert said.out == "old"
            assert "snapshot grown" in said.err
        finally:
            plug_in(b"")
            configured("")
        assert_nothing_left(rig)


def _room() -> int:
    """Return the sectors that the only snapshot has, as the kernel says it."""
    return int(run("dmsetup", "status", "--target", "snapshot").out.split()[4].partition("/")[2])
