"""Sixty runs that are killed, stopped, starved of memory or sent signals, at random moments.

After `clean` nothing is left, nothing stands still for longer than the deadline and a second, and no run says 0 and
leaves something. BORG_LVM_SEED repeats a row of rounds.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.leftovers import dm_devices
from tests.rig.volumes import Volume
from tests.system.support.runs.live import Run, assert_nothing_left, is_writable, processes, tidy, watchdogs
from tests.system.support.runs.program import borg_lvm
from tests.system.support.writers.writers import Writer, writing
from tests.system.test_signals import STRAY
from tests.system.test_true_end import kill_all, wrong_tables

ROUNDS = 60 if "BORG_LVM_RUNS" in os.environ else 6
DEADLINE = 3  # seconds
MORE = 1 if os.environ.get("BORG_LVM_LAB_KERNEL", "").startswith("uml") else 3
LONGEST = 5.0  # seconds from the start of a run to the moment at which something happens to it


def killed(live: Run, chance: random.Random) -> None:
    live.kill(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]))


def everybody_killed(live: Run, chance: random.Random) -> None:
    kill_all()


def helper_killed(live: Run, chance: random.Random) -> None:
    spared = {live.pid, *watchdogs()}
    doomed = [pid for pid, words in processes().items() if pid not in spared and "writers.py" not in words]
    if doomed:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(doomed), signal.SIGKILL)


def stopped(live: Run, chance: random.Random) -> None:
    live.kill(signal.SIGSTOP)
    time.sleep(chance.choice([0.5, DEADLINE + 1]))
    live.kill(signal.SIGCONT)


def starved(live: Run, chance: random.Random) -> None:
    with suppress(ProcessLookupError):
        resource.prlimit(live.pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))


def signalled(live: Run, chance: random.Random) -> None:
    for _ in range(20):
        with suppress(ProcessLookupError):
            os.kill(chance.choice([live.pid, *watchdogs()]), chance.choice(STRAY))


ATTACKS: tuple[Callable[[Run, random.Random], None], ...] = (
    killed, everybody_killed, helper_killed, stopped, starved, signalled
)  # fmt: skip


@contextmanager
def written_to(rig: Rig, volumes: Sequence[Volume]) -> Iterator[list[Writer]]:
    """Have a writer on each volume."""
    writers = [Writer("in-place-synced", (Path(f"{one.at}/file"),), rig.path(f"diary-{one.name}")) for one in volumes]
    with writing(writers):
        yield writers


def longest_wait(writers: Sequence[Writer]) -> float:
    """Return the longest write in seconds."""
    return max(end - begin for writer in writers for begin, end in writer.diary_of_writes()) / 1e9


@pytest.mark.limit(3600)
@pytest.mark.soak
def test_whatever_happens_to_a_run(rig: Rig) -> None:
    with tidy():
        volumes = [rig.volume(name, fs="ext4", at=rig.path(name), mib=64) for name in ("one", "two", "three")]
        rig.path("config.yaml").write_text(f"deadline: {DEADLINE}\n")
        words = ["--config", str(rig.path("config.yaml")), *(w for one in volumes for w in ("--path", str(one.at)))]
        seed = int(os.environ.get("BORG_LVM_SEED", time.time_ns() % 1_000_000))
        chance = random.Random(seed)
        for number in range(ROUNDS):
            attack = ATTACKS[number % len(ATTACKS)]
            with written_to(rig, volumes) as writers:
                live = Run("run", *words, "--", "sleep", "0.5")
                moment = chance.uniform(0.5, LONGEST)
                time.sleep(moment)
                if live.process.poll() is None:
                    attack(live, chance)
                said = live.end(None)
                if said.status == 0:
                    assert not [name for name in dm_devices() if "borg_lvm" in name], said
                cleaned = borg_lvm("clean")
            told = f"round {number} of seed {seed}, {attack.__name__} after {moment:.2f} s: {said}\n{cleaned}"
            assert wrong_tables() == [], told
            assert [one.name for one in volumes if not is_writable(one, seconds=10)] == [], told
            if attack is not everybody_killed:  # who would have set them going is dead, too
                assert longest_wait(writers) <= DEADLINE + MORE, told
            assert_nothing_left(rig)
