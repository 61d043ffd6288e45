"""The clock is set while the command runs: what that has saved is found all the same, and nothing else is taken for it.

Only in a guest, which has a clock of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg, Restic
from tests.system.support.backups.matic import BORGMATIC, Borgmatic
from tests.system.support.runs.gate import BORG_LVM, Gate
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm
from tests.system.test_tainted import archives, lost

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine
HOUR = 3600.0
PutBy = Callable[[float], None]


@pytest.fixture
def put_clock_by() -> Iterator[PutBy]:
    """Give what sets the clock, by so many seconds and after two; it is set right in the end."""
    if os.environ.get("BORG_LVM_LAB") != "guest":
        pytest.skip("the clock is set, which would disturb this machine")
    off = time.time() - time.monotonic()

    def put(seconds: float) -> None:
        time.sleep(2)  # the command is looked at meanwhile
        time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)

    yield put
    time.clock_settime(time.CLOCK_REALTIME, off + time.monotonic())


@pytest.mark.parametrize("by", [pytest.param(HOUR, marks=pytest.mark.soak), -HOUR], ids=["forward", "back"])
@pytest.mark.parametrize("name", ["borg", pytest.param("restic", marks=pytest.mark.soak)])
def test_what_the_command_has_saved_is_found(rig: Rig, put_clock_by: PutBy, name: str, by: float) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        assert volume.at
        (volume.at / "file").write_text("frozen")
        made = Borg.made(rig.path("saved")) if name == "borg" else Restic.made(rig.path("saved"))
        words = ["create", made.archive("a")] if isinstance(made, Borg) else ["backup"]
        gate = Gate(rig.path("gate"), name, only=f"*{words[0]}*")
        argv: list[str | Path] = [BORG_LVM, "run", "--prove", "list", "--", gate.program, *words, volume.at]
        with gate.closed(*argv, env=made.env) as passing:
            put_clock_by(by)
        print(passing.said.err)
        found = json.loads(borg_lvm("report", "--json").out)["proof"]
        assert (found["state"], len(found["archives"])) == ("proven", 1)
        assert_nothing_left(rig)


def by_borgmatic(matic: Borgmatic, gate: Gate, source: Path, *options: str | Path) -> list[str | Path]:
    """Return the command line of a run of borgmatic's, whose borg stands before the gate when it saves."""
    config = matic.configured([source], {"local_path": str(gate.program)})
    return [BORG_LVM, "run", *options, "--", BORGMATIC, "--config", config, "create"]


@pytest.mark.parametrize("by", [pytest.param(HOUR, marks=pytest.mark.soak), -HOUR], ids=["forward", "back"])
def test_what_borgmatic_has_saved_is_found(rig: Rig, put_clock_by: PutBy, by: float) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        matic = Borgmatic.made(rig.path("matic"))
        gate = matic.gate()
        assert volume.at
        (volume.at / "file").write_text("frozen")
        with gate.closed(*by_borgmatic(matic, gate, volume.at, "--prove", "list"), env=matic.env) as passing:
            put_clock_by(by)
        print(passing.said.err)
        found = json.loads(borg_lvm("report", "--json").out)["proof"]
        assert (found["state"], len(found["archives"])) == ("proven", 1)
        assert_nothing_left(rig)


@pytest.mark.parametrize(
    ("by", "left", "words"),
    [
        (HOUR, "borg-lvm-tainted-config-", "is now called borg-lvm-tainted-config-"),
        (-HOUR, "config-", "is invalid, unless it is of an earlier run: the clock was put back to its time"),
    ],
    ids=["forward", "back"],
)
@pytest.mark.soak
def test_what_borgmatic_has_saved_from_a_lost_snapshot_is_named(
    rig: Rig, put_clock_by: PutBy, by: float, left: str, words: str
) -> None:
    """It is marked where it can be of this run alone."""
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        matic = Borgmatic.made(rig.path("matic"))
        gate = matic.gate()
        assert volume.at
        directory = volume.at / "folder"
        directory.mkdir()
        (directory / "file").write_text("frozen")
        rig.path("config.yaml").write_text("on_tainted: rename\n")
        argv = by_borgmatic(matic, gate, directory, "--config", rig.path("config.yaml"))
        with gate.closed(*argv, env=matic.env, status=74) as passing:
            directory.rename(volume.at / "elsewhere")
            directory.mkdir()
            put_clock_by(by)
        print(passing.said.err)
        (archive,) = matic.archives()
        assert archive.startswith(left)
        assert words in passing.said.err
        assert_nothing_left(rig)


def test_what_was_saved_from_a_lost_snapshot_is_marked(rig: Rig, put_clock_by: PutBy) -> None:
    with tidy():
        borg = Borg.made(rig.path("borg"))
        with lost(rig, "borg", "rename", borg.env, "create", borg.archive("a")):
            put_clock_by(HOUR)
        assert archives(borg) == {"borg-lvm-tainted-a"}


@pytest.mark.soak
def test_what_an_earlier_run_of_the_same_words_has_saved_is_not_taken_for_it(rig: Rig, put_clock_by: PutBy) -> None:
    """The clock is put back to the time of that run."""
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        borg, gate = Borg.made(rig.path("borg")), Gate(rig.path("gate"), "borg", only="*create*")
        assert volume.at
        words: list[str | Path] = [
            "--prove",
            "list",
            "--",
            gate.program,
            "create",
            borg.archive("{now}-{pid}"),
            volume.at,
        ]
        argv: list[str | Path] = [BORG_LVM, "run", *words]
        with gate.closed(*argv, env=borg.env):
            earlier = time.monotonic()
        put_clock_by(HOUR)
        (volume.at / "new").write_text("what the earlier one lacks")
        with gate.closed(*argv, env=borg.env, status=77) as passing:
            put_clock_by(-HOUR - 2 - (time.monotonic() - earlier))
            time.sleep(8)  # so that the time at which that one called borg is among those that the clock shows
        assert "may all be this run's: the clock was put back" in passing.said.err
        assert not [name for name in archives(borg) if name.startswith("borg-lvm-tainted-")]
        assert_nothing_left(rig)
