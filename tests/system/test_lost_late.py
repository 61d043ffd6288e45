"""A snapshot that is lost when archives have been finished: they are sound, and it is said so in every way in.

A borgmatic that has read all goes on. Whoever reads it after that is ended, and what that has saved is marked; for a
script, and for who reads the view of `begin`, the message has the time by which archives can be told apart.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.backups.archives import Borg
from tests.system.support.backups.matic import Borgmatic, saving
from tests.system.support.runs import certificates
from tests.system.support.runs.gate import Gate
from tests.system.support.runs.live import Run, assert_nothing_left, tidy
from tests.system.support.runs.program import Said, borg_lvm, run
from tests.system.test_overflow import TAINTED, overflow, prepared

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine
SOUND = "was finished before that: it is sound"


def before_compact(directory: Path) -> Gate:
    """Return a gate before which only the borg that compacts stands, when the archive is finished."""
    return Gate(directory, "borg", only="compact*")


def overflown(rig: Rig, matic: Borgmatic, gate: Gate, volume: Volume, configs: Path) -> tuple[Run, str]:
    """Run borgmatic; its snapshot is lost when it has finished the first archive and stands at the gate."""
    config = rig.path("config.yaml")
    config.write_text("snapshot: {size: 8M, grow: false}\n")
    words = ("--", "borgmatic", "--config", configs, "create", "compact")
    running = Run("run", "--config", config, *words, env=matic.env)
    run_id = running.id()
    running.waited_for((gate.directory / "started").exists, "the first archive")
    time.sleep(3)  # looks are a second apart, and borg's times may be cut to seconds
    overflow(volume)
    time.sleep(3)
    (gate.directory / "open").touch()
    return running, run_id


def test_what_was_finished_before_the_loss_is_sound(rig: Rig) -> None:
    with tidy():
        volume, expected = prepared(rig)
        assert volume.at
        matic, gate = Borgmatic.made(rig.path("matic")), before_compact(rig.path("gate"))
        config = matic.configured([volume.at / "files"], {"local_path": str(gate.program)})
        running, run_id = overflown(rig, matic, gate, volume, config)
        said = running.end(0)
        print(said.err)
        (archive,) = matic.archives()
        assert matic.borg.contents(archive).items() >= expected.items()
        assert "no process reads it, so the command goes on" in said.err
        assert f"borg's archive {archive} {SOUND}" in said.err
        assert "the backup is sound" in said.err
        assert certificates.read(run_id)["result"] == "warning"
        assert_nothing_left(rig)


def test_who_reads_after_the_loss_is_ended_and_what_that_saved_is_marked(rig: Rig) -> None:
    """Two configurations: the second one's archive is begun when the snapshot is lost."""
    with tidy():
        volume, expected = prepared(rig)
        assert volume.at
        matic, gate = Borgmatic.made(rig.path("matic")), before_compact(rig.path("gate"))
        for name, program in (("a", str(gate.program)), ("b", "borg")):
            matic.configured([volume.at / "files"], {"local_path": program}, name)
        running, run_id = overflown(rig, matic, gate, volume, matic.directory)
        said = running.end(74)
        print(said.err)
        (sound,) = (name for name in matic.archives() if name.startswith("a-"))
        assert matic.borg.contents(sound).items() >= expected.items()
        assert f"borg's archive {sound} {SOUND}" in said.err
        assert all(name == sound or name.startswith(TAINTED) for name in matic.archives())
        assert "BACKUP INVALID" in said.err
        assert certificates.read(run_id)["result"] == "tainted"
        assert_nothing_left(rig)


@pytest.mark.soak
def test_a_loss_below_borgmatic_with_local_path_is_reported_by_it(rig: Rig) -> None:
    """As from borgmatic's own unit with our drop-in: what borgmatic says is what the journal has."""
    with tidy():
        volume, _ = prepared(rig)
        assert volume.at
        matic, gate = Borgmatic.made(rig.path("matic")), saving(rig.path("gate"))
        lvm = rig.path("config.yaml")
        lvm.write_text("snapshot: {size: 8M, grow: false}\n")
        config = matic.configured([volume.at / "files"], {"local_path": "borg-lvm-borg"})
        env = {**matic.env, "BORG_LVM_BORG": str(gate.program), "BORG_LVM_CONFIG": str(lvm)}
        with gate.closed("borgmatic", "--config", config, "create", env=env, status=1) as passing:
            overflow(volume)
        print(passing.said)
        shown = passing.said.out + passing.said.err
        assert "BACKUP INVALID" in shown
        assert "except archives" not in shown
        assert "what to do: " in shown
        assert "returned non-zero exit status 2" in shown
        assert all(name.startswith(TAINTED) for name in matic.archives())
        assert_nothing_left(rig)


def assert_told_apart(borg: Borg, said: Said, expected: dict[str, str]) -> None:
    """The first archive is whole, and was finished before the time that is said; the second one was not, if it is."""
    print(said.err)
    assert borg.contents("first").items() >= expected.items()
    found = re.search(r"except archives that were finished before (\S+ \S+): they are sound", said.err)
    assert found
    moment = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S%z").astimezone(UTC).isoformat()
    words = ("--consider-checkpoints", "--format", "{archive} {end:%Y-%m-%dT%H:%M:%S}{NL}", borg.repository)
    listed = run("borg", "list", *words, env={**borg.env, "TZ": "UTC"}).out.splitlines()
    ends = dict(line.split(" ") for line in listed)
    assert [name for name, end in ends.items() if end < moment] == ["first"], (ends, moment)


def test_a_script_that_calls_borg_twice_is_told_which_archives_are_sound(rig: Rig) -> None:
    with tidy():
        volume, expected = prepared(rig)
        assert volume.at
        borg, waits = Borg.made(rig.path("borg")), rig.path("waits")
        waits.mkdir()
        config = rig.path("config.yaml")
        config.write_text("snapshot: {size: 8M, grow: false}\n")
        create = [f"borg create {borg.archive(name)} {volume.at}/files" for name in ("first", "second")]
        script = f"{create[0]}; touch {waits}/first; while [ ! -e {waits}/go ]; do sleep 0.1; done; {create[1]}"
        running = Run("run", "--config", config, "--path", volume.at, "--", "sh", "-c", script, env=borg.env)
        running.waited_for((waits / "first").exists, "the first archive")
        time.sleep(4)  # looks are a second apart, and times are cut to seconds
        overflow(volume)
        (waits / "go").touch()
        said = running.end(74)
        assert "cannot mark what `sh` wrote" in said.err
        assert_told_apart(borg, said, expected)
        assert_nothing_left(rig)


def test_who_reads_a_view_is_told_which_archives_are_sound(rig: Rig) -> None:
    with tidy():
        volume, expected = prepared(rig)
        assert volume.at
        borg, config = Borg.made(rig.path("borg")), rig.path("config.yaml")
        config.write_text("snapshot: {size: 8M, grow: false}\n")
        borg_lvm("begin", "--config", config, "v", "--path", volume.at)
        run("borg", "create", borg.archive("first"), f"/run/borg-lvm/view/v/.{volume.at}/files", env=borg.env)
        time.sleep(4)
        overflow(volume)
        time.sleep(3)
        assert_told_apart(borg, borg_lvm("end", "v", status=74), expected)
        assert_nothing_left(rig)
