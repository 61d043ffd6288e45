"""Snapshots are sized by what the last runs have used; a history that is damaged or cannot be kept fails no backup."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import Run, assert_nothing_left, tidy
from tests.system.support.runs.program import Said, borg_lvm, run

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine
MIB = 1 << 20
LIB = Path("/var/lib/borg-lvm")
HISTORY = LIB / "history"
BURSTS = 30 if "BORG_LVM_RUNS" in os.environ else 2
SEED = int(os.environ.get("BORG_LVM_SEED", "1"))
LOAD = 12  # MiB that each run's volume gets to bear


@pytest.fixture(autouse=True)
def own_history(rig: Rig) -> Iterator[None]:
    """Put an empty /var/lib/borg-lvm there for the length of a test."""
    with library(rig, "tmpfs", "size=4m,mode=700"):
        yield


@contextmanager
def library(rig: Rig, *mount: str) -> Iterator[None]:
    """Mount a file system (its type and options) at the program's directory."""
    LIB.mkdir(parents=True, exist_ok=True)
    fstype, options = mount
    run("mount", "-t", fstype, "-o", options, "none", LIB)
    rig._remember()
    try:
        yield
    finally:
        run("umount", LIB)


def loaded(rig: Rig, volume: Volume, *options: str, look: Callable[[], None] = lambda: None) -> Said:
    """Run a backup that lasts a few seconds, in which the volume has its load to bear; look at it in the end."""
    go = rig.path("go")
    go.unlink(missing_ok=True)
    assert volume.at
    script = f"while [ ! -e {go} ]; do sleep 0.1; done"
    running = Run("run", *options, "--path", volume.at, "--", "sh", "-c", script)
    running.step("command")
    with (volume.at / "busy").open("wb", buffering=0) as file:
        for _ in range(LOAD):
            file.write(os.urandom(MIB))
            os.fsync(file.fileno())
            time.sleep(0.2)
    time.sleep(1.2)  # so that the last look comes after it
    look()
    go.touch()
    return running.end(0)


def fill(file: Path, size: int) -> None:
    """Write to the end of a file, so many bytes at a time, until it goes no further."""
    with file.open("ab", buffering=0) as open_file:
        while open_file.write(bytes(size)):
            pass


def planned(volume: Volume, *options: str) -> tuple[int, str]:
    """Return the size of the snapshot that is planned, and why."""
    assert volume.at
    said = borg_lvm("plan", "--json", *options, "--path", volume.at, "--", "true")
    (one,) = json.loads(said.out)["snapshots"]
    return one["size"], one["why"]


def used(said: Said) -> float:
    found = re.search(r": ([\d.]+) MiB of [\d.]+ MiB snapshot space used", said.err)
    assert found, said
    return float(found[1]) * MIB


def test_a_burst_after_quiet_nights_is_survived(rig: Rig) -> None:
    """As fast as it can be written, up to all that the volume holds, where its group has that much free."""
    draw = random.Random(SEED)
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=192, group=rig.group(mib=2 * 192 + 4), at=rig.path("data"))
        assert volume.at
        burst, go = volume.at / "burst", rig.path("go")
        lost = []
        for number in range(BURSTS):
            said = borg_lvm("run", "--path", volume.at, "--", "true")
            assert "KiB of" in said.err, "a quiet night"
            room = os.statvfs(volume.at)
            count = int(draw.uniform(0.1, 1.0) * room.f_bavail * room.f_frsize) // MIB
            running = Run("run", "--path", volume.at, "--", "sh", "-c", f"until [ -e {go} ]; do sleep 0.1; done")
            running.step("command")
            run("dd", "if=/dev/zero", f"of={burst}", "bs=1M", f"count={count}", "conv=fsync")
            go.touch()
            _, errors = running.process.communicate()
            if running.process.returncode:
                lost.append((number, count, os.fsdecode(errors)))
            burst.unlink()
            go.unlink()
        assert lost == []
        assert_nothing_left(rig)


@pytest.mark.soak
def test_what_quiet_runs_needed_is_no_reason_for_less(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=512, at=rig.path("data"))
        all_of_it = (planned(volume)[0], "auto: all that it can ever use")
        for _ in range(5):
            loaded(rig, volume, "--snapshot-size", "64M")
        assert planned(volume) == all_of_it
        said = loaded(rig, volume)
        assert "grown" not in said.err
        assert LOAD * MIB <= used(said) <= all_of_it[0]
        assert len(list(HISTORY.glob("*.json"))) == 6
        assert_nothing_left(rig)


@pytest.mark.soak
def test_a_snapshot_that_was_too_small_is_larger_the_next_time(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=512, at=rig.path("data"))
        assert volume.at
        script = f"sleep 1; dd if=/dev/urandom of=/proc/1/root{volume.at}/busy bs=1M count=40 conv=fsync; sleep 100"
        words = ("run", "--snapshot-size", "24M", "--path", volume.at, "--", "sh", "-c", script)
        config = rig.path("config.yaml")
        config.write_text("snapshot: {grow: false}\n")
        said = borg_lvm(words[0], "--config", config, *words[1:], status=74)
        assert "it could not grow: growing is switched off" in said.err or "it would have had to be larger" in said.err
        assert planned(volume)[0] >= 2 * 24 * MIB
        assert_nothing_left(rig)


def test_a_damaged_history_is_set_aside(rig: Rig) -> None:
    """The rule: a warning, once; the file is kept aside, and the backup goes on."""
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        HISTORY.mkdir()
        (HISTORY / "20260101T000000-abcdef.json").write_bytes(b'{"version": 1, "vol\0\0\0')
        said = borg_lvm("run", "--path", rig.path("data"), "--", "true")
        assert said.err.count("was damaged and has been set aside") == 1
        assert (HISTORY / "20260101T000000-abcdef.damaged").exists()
        assert "set aside" not in borg_lvm("run", "--path", rig.path("data"), "--", "true").err
        assert len(list(HISTORY.glob("*.json"))) == 2
        assert volume.at
        assert_nothing_left(rig)


def test_a_full_var_is_a_warning(rig: Rig) -> None:
    """The rule: a warning that this run's history cannot be kept; the backup goes on."""
    with tidy():
        rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        HISTORY.mkdir()
        for size in (MIB, 512):
            with pytest.raises(OSError, match="No space left"):
                fill(LIB / "filler", size)
        said = borg_lvm("run", "--path", rig.path("data"), "--", "true")
        assert "the backup is not concerned" in said.err
        assert list(HISTORY.iterdir()) == []
        assert_nothing_left(rig)


def test_a_var_that_cannot_be_written_is_a_warning(rig: Rig) -> None:
    """The rule: as for one that is full."""
    with tidy(), library(rig, "tmpfs", "ro,mode=700"):
        rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        said = borg_lvm("run", "--path", rig.path("data"), "--", "true")
        assert "Read-only file system; the backup is not concerned" in said.err
        assert_nothing_left(rig)


def test_sizes_of_certain_volumes_and_of_what_is_used(rig: Rig) -> None:
    volume = rig.volume("data", fs="ext4", mib=256, at=rig.path("data"))
    assert volume.at
    (volume.at / "file").write_bytes(os.urandom(40 * MIB))
    os.sync()
    size, why = planned(volume, "--snapshot-size", "200%USED")
    assert why == "200%USED"
    assert 80 * MIB <= size <= 140 * MIB
    config = rig.path("config.yaml")
    config.write_text(f"snapshot:\n  volumes:\n    - volume: {volume.full_name}\n      size: 33M\n")
    assert planned(volume, "--config", str(config)) == (33 * MIB, "33MiB")
