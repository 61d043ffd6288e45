"""Snapshots that fill while the backup runs: grown in time, or the run fails at once and says why."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.leftovers import dm_devices
from tests.rig.tools import run as tool
from tests.rig.volumes import Volume
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.gate import BORG_LVM, Gate
from tests.system.support.runs.live import Programs, Run, assert_nothing_left, state_of, tidy, wait_for
from tests.system.support.runs.program import borg_lvm
from tests.system.support.writers.treehash import differences, tree
from tests.system.support.writers.watching import ended, filled, overwrite

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine


@contextmanager
def extracted(borg: Borg, name: str, into: Path, source: Path) -> Iterator[Path]:
    """Give the directory of an archive that stands for the source."""
    into.mkdir()
    borg.extract(name, into)
    yield into / str(source).removeprefix("/")


def test_a_snapshot_grows_before_it_is_full(rig: Rig) -> None:
    with tidy():
        data = filled(rig.volume("data", fs="ext4", mib=128, at=rig.path("data")))
        frozen = tree(data)
        borg, gate = Borg.made(rig.path("borg")), Gate(rig.path("gate"), "borg")
        argv: list[str | Path] = [BORG_LVM, "run", "--snapshot-size", "16M", "--", gate.program]
        argv += ["create", borg.archive("a"), data]
        with gate.closed(*argv, env=borg.env) as passing:
            overwrite(data, 60, pause=0.3)
            (data / "file0").write_bytes(b"changed")
        print(passing.said.err)
        assert "snapshot grown from 16.0 MiB to " in passing.said.err
        with extracted(borg, "a", rig.path("out"), data) as copy:
            assert differences(frozen, tree(copy)) == []
        assert_nothing_left(rig)


def test_a_snapshot_that_cannot_grow_ends_the_command_at_once(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=128, group=rig.group(mib=160), at=rig.path("data"))
        data, told = filled(volume), rig.path("told")
        script = f"""
            trap 'echo ended >{told}; exit 0' TERM
            sleep 1000 & wait
        """
        argv = ("run", "--snapshot-size", "8M", "--path", data, "--", "sh", "-c", script)
        running = Run(*argv)
        running.step("command")
        overwrite(data, 60, pause=1, until=ended(running))
        said = running.end(74)
        print(said)
        assert told.read_text() == "ended\n"
        assert "BACKUP INVALID" in said.err
        assert f"it could not grow: {volume.group.name} has " in said.err
        assert "snapshot: {volumes: [{volume: " in said.err
        assert_nothing_left(rig)


@pytest.mark.parametrize("what", ["command", "script"])
def test_a_command_that_heeds_no_signal_is_ended_too(rig: Rig, what: str) -> None:
    with tidy():
        data = filled(rig.volume("data", fs="ext4", mib=128, group=rig.group(mib=160), at=rig.path("data")))
        stubborn = "trap '' TERM; while :; do sleep 1; done"
        script = stubborn if what == "command" else f"sh -c '{stubborn}' & exec sleep 1000"
        running = Run("run", "--snapshot-size", "8M", "--path", data, "--", "sh", "-c", script)
        running.step("command")
        overwrite(data, 60, until=ended(running))
        said = running.end(74)
        assert ("the command did not end within 10 s and was killed" in said.err) is (what == "command")
        assert_nothing_left(rig)


def cow(volume: Volume, run_id: str) -> str:
    """Return the device that holds the space of a run's only snapshot, with a node also where no udev makes one."""
    tool("dmsetup", "mknodes")
    return f"/dev/mapper/{volume.group.name}-borg_lvm--{run_id.replace('-', '--')}--0-cow"


@pytest.mark.parametrize(
    "killed", [pytest.param(who, marks=pytest.mark.soak) for who in ("lvextend", "borg-lvm", "both")]
)
def test_an_lvextend_that_dies_half_way_stops_nobody(rig: Rig, killed: str) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=128, at=rig.path("data"))
        data, programs = filled(volume), Programs(rig.path("programs"))
        script = f"while [ ! -e {rig.path('go')} ]; do sleep 0.2; done"
        argv = ("run", "--snapshot-size", "16M", "--path", data, "--", "sh", "-c", script)
        running = Run(*argv, programs=programs)
        running.step("command")
        told = programs.halt("lvextend", cow(volume, running.id()))
        writer = threading.Thread(target=overwrite, args=(data, 30, 0.8))  # LVM must be able to follow
        writer.start()
        helper = int(running.waited_for(lambda: told.exists() and told.read_text(), "lvextend to suspend everything"))
        wait_for(lambda: state_of(helper) == "T", "lvextend to stop")
        assert len(dm_devices(suspended=True)) == 4
        if killed != "lvextend":
            running.kill()
        if killed != "borg-lvm":
            os.kill(helper, signal.SIGKILL)
        writer.join(timeout=120)
        assert not writer.is_alive(), "the volume stands still"
        assert dm_devices(suspended=True) == []
        if killed == "lvextend":
            rig.path("go").touch()
            assert "could not be grown: lvextend" in running.end(0).err
        else:
            running.end(-signal.SIGKILL)
            if killed == "borg-lvm":
                os.kill(helper, signal.SIGCONT)
            borg_lvm("clean")
        assert_nothing_left(rig)


@contextmanager
def shared_pool(rig: Rig) -> Iterator[tuple[Path, Volume]]:
    """Give a thin volume whose pool is nearly full of its own and another volume's data: see `refill`."""
    volume = rig.volume("data", kind="thin", fs="ext4", mib=128, at=rig.path("data"))
    other = rig.volume("other", kind="thin", fs="ext4", mib=128, at=rig.path("other"))
    tool("lvchange", "-q", "-y", "--errorwhenfull", "y", f"{volume.group.name}/pool")
    assert volume.at
    assert other.at
    for at in (volume.at, other.at):
        overwrite(at, 100)
    yield volume.at, volume


def pool_state(volume: Volume) -> str:
    return tool("dmsetup", "status", f"{volume.group.name}-pool-tpool").split()[7]


def test_a_thin_pool_that_fills_is_the_servers_first(rig: Rig) -> None:
    with tidy(), shared_pool(rig) as (data, volume):
        running = Run("run", "--path", data, "--", "sleep", "1000")
        running.step("command")
        overwrite(data, 100, pause=0.2)  # raises when the volume cannot be written
        said = running.end(74)
        print(said)
        assert "its volumes would not be writable any more" in said.err
        assert "the command is ended" in said.err
        assert pool_state(volume) == "rw"
        assert_nothing_left(rig)


@pytest.mark.soak
def test_a_thin_pool_that_fills_without_us_fails_its_volumes(rig: Rig) -> None:
    with shared_pool(rig) as (data, volume):
        tool("lvcreate", "-q", "-y", "-s", "-n", "plain", volume.full_name)
        with pytest.raises(OSError, match=r"error|space|Read-only"):
            overwrite(data, 100)
        assert pool_state(volume) != "rw"


def test_a_thin_pool_grows_if_it_may(rig: Rig) -> None:
    with tidy(), shared_pool(rig) as (data, volume):
        config = rig.path("config.yaml")
        config.write_text("snapshot:\n  grow_pool: true\n")
        go = rig.path("go")
        script = f"while [ ! -e {go} ]; do sleep 0.2; done"
        running = Run("run", "--config", config, "--path", data, "--", "sh", "-c", script)
        running.step("command")
        overwrite(data, 100, pause=0.2)
        go.touch()
        said = running.end(0)
        print(said)
        assert f"thin pool {volume.group.name}/pool: data grown by " in said.err
        assert_nothing_left(rig)


@pytest.mark.soak
def test_two_runs_grow_in_one_group_and_leave_its_reserve_alone(rig: Rig) -> None:
    """Both ask and take at the same time; neither is lost, and the group keeps what it is to keep."""
    with tidy():
        group = rig.group(mib=512)
        volumes = [rig.volume(name, fs="ext4", mib=96, group=group, at=rig.path(name)) for name in ("a", "b")]
        ats = [filled(volume) for volume in volumes]
        frozen = [tree(at) for at in ats]
        reserve = 64
        config = rig.path("config.yaml")
        config.write_text(f"snapshot:\n  reserve: {reserve}M\n")
        wait, copy = f"while [ ! -e {rig.path('go')} ]; do sleep 0.2; done", rig.path("copy")
        runs = []
        for at in ats:
            words = ("run", "--config", config, "--snapshot-size", "16M", "--path", at, "--", "sh", "-c")
            runs.append(Run(*words, f"{wait}; cp -a {at} {copy}-{at.name}"))
        for running in runs:
            running.step("command")
        writers = [threading.Thread(target=overwrite, args=(at, 50, 0.4)) for at in ats]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(timeout=300)
        free = int(float(tool("vgs", "--noheadings", "--nosuffix", "--units", "m", "-o", "vg_free", group.name)))
        rig.path("go").touch()
        for running, at, before in zip(runs, ats, frozen, strict=True):
            said = running.end(0)
            print(said.err)
            assert "snapshot grown from 16.0 MiB to " in said.err
            assert differences(before, tree(Path(f"{copy}-{at.name}"))) == []
        assert free >= reserve
        assert_nothing_left(rig)
