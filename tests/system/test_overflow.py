"""Whatever is written, and whenever: never a silent loss. The same loads, borne by a plain snapshot, lose files.

Each run draws its load and its snapshot from a seed, which is printed; BORG_LVM_SEED repeats one.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.tools import run as tool
from tests.rig.volumes import Volume
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.live import Run, assert_nothing_left, dmeventds, end_dmeventd, finished, tidy, wait_for
from tests.system.support.runs.program import run, start

pytestmark = pytest.mark.limit(7200)  # seconds; a fraction of it on an idle machine
RUNS = int(os.environ.get("BORG_LVM_RUNS", "2"))
"""How many runs each proof takes; `make soak` takes 40."""
SEED = int(os.environ.get("BORG_LVM_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
MIB = 1 << 20
FILES = 50
TAINTED = "borg-lvm-tainted-"


@dataclass(frozen=True)
class Load:
    """What a run has to bear: MiB of space at first, whether it may grow, and how the writer writes."""

    size: int
    grow: bool
    delay: float
    mib: int
    at_once: int
    pause: float

    @classmethod
    def drawn(cls, number: int) -> Load:
        """Draw the load of a run: every second snapshot may not grow, and is written to at once.

        The first two are certain, so that even two runs show both: nothing that fills, and what must overflow.
        """
        dice = random.Random(SEED + number)
        if number < 2:
            return cls(40, True, 0, 10, 1, 0.1) if number == 0 else cls(4, False, 0, 90, 8, 0)
        grow = number % 2 == 0
        if grow:
            return cls(dice.randint(8, 40), True, dice.uniform(0, 3), dice.randint(10, 90), 1, dice.uniform(0.05, 0.5))
        return cls(dice.randint(4, 16), False, dice.uniform(0, 1), dice.randint(40, 90), dice.randint(1, 8), 0.0)

    def bear(self, volume: Path, over: Callable[[], bool]) -> None:
        """Write."""
        time.sleep(self.delay)
        with (volume / "busy").open("r+b", buffering=0) as file:
            for _ in range(0, self.mib, self.at_once):
                file.write(os.urandom(self.at_once * MIB))
                os.fsync(file.fileno())
                if over():
                    return
                time.sleep(self.pause)


def prepared(rig: Rig) -> tuple[Volume, dict[str, str]]:
    """Return a volume with files that nobody changes and one that is busy, and what borg must hold of it."""
    volume = rig.volume("data", fs="ext4", mib=160, group=rig.group(mib=380), at=rig.path("data"))
    assert volume.at
    (volume.at / "busy").write_bytes(bytes(100 * MIB))
    (volume.at / "files").mkdir()
    expected = {}
    for number in range(FILES):
        text = random.Random(number).randbytes(60_000).hex()
        (volume.at / "files" / str(number)).write_text(text)
        expected[str(volume.at / "files" / str(number)).removeprefix("/")] = text
    os.sync()
    return volume, expected


def archives(borg: Borg) -> set[str]:
    return set(run("borg", "list", "--short", borg.repository, env=borg.env).out.split())


def outcome_of_ours(rig: Rig, volume: Volume, borg: Borg, number: int, expected: dict[str, str]) -> str:
    """Do one run; return what came of it, in one word."""
    load = Load.drawn(number)
    assert volume.at
    config, name = rig.path("config.yaml"), f"run{number}"
    config.write_text(f"snapshot: {{size: {load.size}M, grow: {str(load.grow).lower()}}}\n")
    argv = ("run", "--config", config, "--", "borg", "create", borg.archive(name), volume.at / "files")
    running = Run(*argv, env=borg.env)
    running.step("command")
    load.bear(volume.at, lambda: running.process.poll() is not None)
    said = running.end(None)
    print(f"{number}: {load}: status {said.status}")
    kept = archives(borg)
    if name in kept:
        assert borg.contents(name) == expected, f"a silent loss, seed {SEED}, run {number}: {said}"
        assert said.status == 0, said
        return "grown" if "snapshot grown" in said.err else "calm"
    assert said.status == 74, said
    assert "BACKUP INVALID" in said.err
    return "tainted" if TAINTED + name in kept else "ended"


def test_never_a_silent_loss(rig: Rig) -> None:
    print(f"seed {SEED}")
    with tidy():
        volume, expected = prepared(rig)
        borg = Borg.made(rig.path("borg"))
        found = Counter(outcome_of_ours(rig, volume, borg, number, expected) for number in range(RUNS))
        print(dict(found))
        assert found["tainted"] + found["ended"] > 0, "no snapshot overflowed, so nothing is proven"
        assert found["grown"] + found["calm"] > 0, "no backup was saved, so nothing is proven"
        assert_nothing_left(rig)


@contextmanager
def plain(volume: Volume, size: int, at: Path, *options: str) -> Iterator[None]:
    """Make and mount a snapshot as everybody does."""
    group = volume.group.name
    tool("lvcreate", "-q", "-y", "-s", "-L", f"{size}m", "-n", "plain", *options, volume.full_name)
    at.mkdir(exist_ok=True)
    tool("mount", "-o", "ro", f"/dev/{group}/plain", str(at))
    try:
        yield
    finally:
        run("umount", at, status=None)
        tool("lvremove", "-q", "-y", f"{group}/plain")


@pytest.mark.soak
def test_a_plain_snapshot_loses_files_and_borg_calls_it_a_warning(rig: Rig) -> None:
    print(f"seed {SEED}")
    volume, expected = prepared(rig)
    borg = Borg.made(rig.path("borg"))
    assert volume.at
    losses = 0
    for number in range(1, 2 * RUNS, 2):
        load, at, over = Load.drawn(number), rig.path("plain"), threading.Event()
        with plain(volume, load.size, at):
            writer = threading.Thread(target=load.bear, args=(volume.at, over.is_set))
            writer.start()
            said = finished(start(["borg", "create", borg.archive(f"run{number}"), at / "files"], env=borg.env))
            over.set()
            writer.join()
        stored = borg.contents(f"run{number}") if f"run{number}" in archives(borg) else {}
        print(f"{number}: {load}: status {said.status}, {len(stored)} of {len(expected)} files")
        losses += said.status in (0, 1) and len(stored) < len(expected)
    assert losses > 0, "the harness sees no loss where there must be one"


def overflow(volume: Volume) -> None:
    assert volume.at
    with (volume.at / "busy").open("r+b", buffering=0) as file:
        for _ in range(30):
            file.write(os.urandom(MIB))
            os.fsync(file.fileno())


MONITORED = ("--config", "activation{monitoring=1}")


def test_dmeventd_takes_nothing_away_from_the_view(rig: Rig) -> None:
    with tidy():
        volume, _ = prepared(rig)
        assert volume.at
        looks, files = rig.path("looks"), volume.at / "files"
        # A look counts if `ls` came to its end: the kill at last takes it away, too.
        look = f"names=$(ls {files} 2>>{looks}.errors) && set -- $names && echo $# >>{looks}"
        script = f"trap '' TERM; while :; do {look}; sleep 0.2; done"
        config = rig.path("config.yaml")
        config.write_text("snapshot: {size: 8M, grow: false}\n")
        running = Run("run", "--config", config, "--path", volume.at, "--", "sh", "-c", script)
        running.step("command")
        wait_for(lambda: looks.exists() and looks.read_text(), "a look")
        snapshot = f"{volume.group.name}/borg_lvm-{running.id()}-0"
        tool("lvchange", "-y", "--monitor", "y", *MONITORED, snapshot)
        assert dmeventds()
        overflow(volume)
        running.end(74)
        # The command was stubborn and went on for some seconds: it saw all files or errors, never an empty directory.
        counts = [int(line) for line in looks.read_text().split()]
        assert counts.count(FILES) > 0
        assert counts.count(0) == 0
        assert_nothing_left(rig)


@pytest.mark.soak
def test_dmeventd_empties_what_is_mounted_on_the_machine(rig: Rig) -> None:
    volume, _ = prepared(rig)
    at = rig.path("plain")
    with plain(volume, 8, at):
        tool("lvchange", "-y", "--monitor", "y", *MONITORED, f"{volume.group.name}/plain")
        overflow(volume)
        wait_for(lambda: not os.path.ismount(at), "dmeventd to unmount it")
        assert list(at.iterdir()) == []
    end_dmeventd()
