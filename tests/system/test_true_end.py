"""What a run says in the end is true: its snapshots are gone for LVM and the kernel, and live volumes as before."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.rig import Rig
from tests.rig.leftovers import dm_devices
from tests.rig.volumes import Kind, Volume
from tests.system.support.runs.live import (
    Gate,
    Programs,
    Run,
    assert_nothing_left,
    is_writable,
    ledgers,
    processes,
    tidy,
    wait_for,
)
from tests.system.support.runs.program import borg_lvm, run

ROUNDS = 20 if "BORG_LVM_RUNS" in os.environ else 3


@pytest.fixture
def one(rig: Rig, request: pytest.FixtureRequest) -> Iterator[Volume]:
    """Give a volume; thick, if no other kind is asked for."""
    with tidy():
        yield rig.volume("one", kind=getattr(request, "param", "thick"), fs="ext4", at=rig.path("one"))


def snapshot() -> str:
    """Return the snapshot of the run that goes on."""
    (name,) = [step["name"] for steps in ledgers().values() for step in steps if step["step"] == "snapshot"]
    return str(name)


def during(
    rig: Rig, one: Volume, work: Callable[[str], object], status: int = 0, programs: Programs | None = None
) -> str:
    """Do something with the run's snapshot while its command runs; return what the run said."""
    gate = Gate(rig.directory, f"gate-{time.monotonic_ns()}")
    live = Run("run", "--path", str(one.at), "--", "sh", "-c", gate.shell, programs=programs)
    gate.reached(process=live.process)
    work(snapshot())
    gate.open()
    return live.end(status).err


def assert_live_data_survives(one: Volume) -> None:
    """Write a file, have the volume activated anew, and look for that file."""
    assert one.at
    (one.at / "later").write_text("written after the snapshot\n")
    run("umount", one.at)
    run("lvchange", "-an", one.full_name)
    run("lvchange", "-ay", one.full_name)
    time.sleep(1)
    run("mount", one.top, one.at)
    assert (one.at / "later").read_text() == "written after the snapshot\n"


KINDS: list[Kind] = ["thick", "thin"]


@pytest.mark.parametrize("one", KINDS, indirect=True)
def test_a_merge_is_stopped(rig: Rig, one: Volume) -> None:
    said = during(rig, one, lambda name: run("lvconvert", "-y", "--merge", name))
    assert "was to be merged into" in said
    assert "all snapshots removed" in said
    assert_live_data_survives(one)
    assert_nothing_left(rig)


@pytest.mark.parametrize("one", [pytest.param("thick", marks=pytest.mark.soak), "thin"], indirect=True)
def test_a_merge_that_cannot_be_stopped_is_status_76(rig: Rig, one: Volume) -> None:
    programs = Programs(rig.path("programs"))
    programs.fail("vgcfgrestore")
    said = during(rig, one, lambda name: run("lvconvert", "-y", "--merge", name), 76, programs)
    assert "all that was written to it since the snapshot is lost. To stop that: " in said
    assert "all snapshots removed" not in said
    mended = borg_lvm("clean")
    assert "was to be merged into" in mended.err
    assert_live_data_survives(one)
    assert_nothing_left(rig)


def test_a_merge_of_a_dead_runs_snapshot_is_stopped(rig: Rig, one: Volume) -> None:
    gate = Gate(rig.directory, "gate")
    live = Run("run", "--path", str(one.at), "--", "sh", "-c", gate.shell)
    gate.reached(process=live.process)
    run("lvconvert", "-y", "--merge", snapshot())
    live.kill()
    live.end(-signal.SIGKILL)
    borg_lvm("run", "--path", str(one.at), "--", "true", status=None)  # whatever it does, the merge is not forgotten
    borg_lvm("clean")
    assert_live_data_survives(one)
    assert_nothing_left(rig)


def renamed(name: str) -> None:
    run("lvrename", name, f"{name.split('/', maxsplit=1)[0]}/somebodys")


def untagged(name: str) -> None:
    tags = [tag for tag in run("lvs", "--noheadings", "-o", "lv_tags", name).out.strip().split(",") if tag]
    run("lvchange", *(word for tag in tags for word in ("--deltag", tag)), name)


def renamed_and_untagged(name: str) -> None:
    untagged(name)
    renamed(name)


def split(name: str) -> None:
    """Have LVM take a snapshot away from its origin, or make one that may be written to of it, if it does."""
    run("lvconvert", "-y", "--splitsnapshot", name, status=None)


@pytest.mark.each_value
@pytest.mark.parametrize("change", [renamed, untagged, renamed_and_untagged, split])
@pytest.mark.parametrize("one", KINDS, indirect=True)
def test_a_snapshot_is_known_whatever_it_is_called(rig: Rig, one: Volume, change: Callable[[str], None]) -> None:
    said = during(rig, one, change)
    assert "all snapshots removed" in said
    left = run("lvs", "--noheadings", "-o", "lv_name", one.group.name).out.split()
    assert not [name for name in left if "somebodys" in name or "borg_lvm" in name]
    assert_nothing_left(rig)


def wrong_tables() -> list[str]:
    """Return what LVM and the kernel do not agree about."""
    lines = run("lvs", "-a", "--noheadings", "-o", "lv_full_name,lv_attr").out.splitlines()
    found = [line.strip() for line in lines if "X" in line.split()[-1]]
    found += [f"device {name}" for name in dm_devices() if name.endswith(("-real", "-cow")) or "borg_lvm" in name]
    return found + [f"suspended {name}" for name in dm_devices(suspended=True)]


@pytest.mark.parametrize("kept", [True, False], ids=["ledger", "no ledger"])
def test_clean_puts_a_wrong_table_right(rig: Rig, one: Volume, kept: bool) -> None:
    """Metadata without a snapshot, and a kernel with one: as a command of LVM's that was killed leaves them."""
    gate = Gate(rig.directory, "gate")
    live = Run("run", "--path", str(one.at), "--", "sh", "-c", gate.shell)
    gate.reached(process=live.process)
    name, run_id = snapshot(), live.id()
    kill_all()
    live.end(-signal.SIGKILL)
    run("lvremove", "-y", "--config", "global{activation=0}", name)
    assert wrong_tables()
    if not kept:
        run("rm", "-r", f"/run/borg-lvm/{run_id}")
    said = borg_lvm("clean")
    assert wrong_tables() == [], said
    assert "nothing to clean" not in said.err
    assert "nothing to clean" in borg_lvm("clean").err
    assert is_writable(one, seconds=10)
    assert_nothing_left(rig)


def kill_all() -> None:
    """Kill everything that a run consists of, as the kernel does with a control group that is out of memory."""
    while found := [pid for pid, words in processes().items() if "writers.py" not in words]:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


@pytest.mark.limit(900)
def test_after_all_were_killed_in_the_window_clean_repairs(rig: Rig) -> None:
    """At random moments of the window of three volumes."""
    with tidy():
        volumes = [rig.volume(name, fs="ext4", at=rig.path(name)) for name in ("one", "two", "three")]
        paths = [word for volume in volumes for word in ("--path", str(volume.at))]
        seed = int(os.environ.get("BORG_LVM_SEED", time.time_ns() % 1_000_000))
        chance = random.Random(seed)
        for number in range(ROUNDS):
            live = Run("run", *paths, "--", "true")
            wait_for(lambda: any("borg_lvm" in name for name in dm_devices()), "the first space")
            time.sleep(chance.uniform(0, 1.5))
            kill_all()
            live.end(None)
            said = borg_lvm("clean")
            told = f"round {number} of seed {seed}: {said}"
            assert wrong_tables() == [], told
            assert [one.name for one in volumes if not is_writable(one, seconds=10)] == [], told
            assert not re.search("Traceback|bug", said.err), told
            assert_nothing_left(rig)
