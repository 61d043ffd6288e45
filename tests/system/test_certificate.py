"""What a run says of itself afterwards: its certificate, whatever ended it. Every other test validates its own too."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime
from pathlib import Path

import jsonschema
import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg, Restic
from tests.system.support.runs import certificates
from tests.system.support.runs.live import Gate, Programs, Run, assert_nothing_left, script, tidy
from tests.system.support.runs.program import borg_lvm, run
from tests.system.support.servers import kept
from tests.system.support.writers.watching import ended, filled, overwrite

pytestmark = pytest.mark.limit(600)  # seconds; a fraction of it on an idle machine
REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"


def test_a_run_that_went_well(rig: Rig) -> None:
    with tidy():
        ext4 = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        xfs = rig.volume("more", fs="xfs", mib=320, at=rig.path("more"))
        borg = Borg.made(rig.path("borg"))
        assert ext4.at
        assert xfs.at
        (ext4.at / "live").mkdir()
        words = ("run", "--live", ext4.at / "live", "--", "borg", "create", borg.archive("monday"), ext4.at, xfs.at)
        said = borg_lvm(*words, env=borg.env)
        print(said.err)
        made = certificates.read()
        assert (made["result"], made["status"], made["archive"]) == ("success", 0, "monday")
        assert made["command"]["program"] == "borg"
        assert {one["path"]: one["volume"] for one in made["frozen"]} == {
            str(ext4.at): ext4.full_name,
            str(xfs.at): xfs.full_name,
        }
        assert {"path": str(ext4.at / "live"), "because": "declared live"} in made["live"]
        (instant,) = made["instants"]
        for one in made["volumes"]:
            assert 0 < one["still_ms"] <= instant["uncertainty_ms"]
            assert one["space"]["used"] <= one["space"]["total"]
            assert one["curve"]
        assert [one["name"] for one in made["phases"]] == [
            "waiting", "preparing", "snapshots", "view", "command", "release",
        ]  # fmt: skip
        assert made["begin"] + sum(one["seconds"] for one in made["phases"]) <= made["end"] + 0.1
        assert made["released"]["state"] == "released"
        told = borg_lvm("report").out
        print(told)
        assert f"Run {made['run']} on " in told
        assert json.loads(borg_lvm("report", made["run"][:-1], "--json").out) == made
        borg_lvm("report", "--html", rig.path("page.html"))
        assert ext4.full_name in rig.path("page.html").read_text()
        past = borg_lvm("history").out
        print(past)
        assert [line for line in past.splitlines() if line.startswith(made["run"])]
        assert json.loads(borg_lvm("history", "--json").out)[-1] == made
        assert "no run '1999' is recorded" in borg_lvm("report", "1999", status=64).err
        assert_nothing_left(rig)


def test_the_command_began_before_it_was_let_go(rig: Rig) -> None:
    """By when it ran, an archive is known as its: also where the command is quicker than we are."""
    with tidy():
        rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        borg_lvm("run", "--path", rig.path("data"), "--", "sh", "-c", "kill -STOP $PPID; sleep 3; kill -CONT $PPID")
        assert certificates.read()["command"]["seconds"] >= 3
        assert_nothing_left(rig)


@pytest.mark.soak
@pytest.mark.needs("redis")
def test_a_run_with_everything_in_it(rig: Rig) -> None:
    """Several volumes, an application, a snapshot that grows: as in tests/unit/data/real.json, which this has made."""
    with tidy():
        paths = [rig.path(name) for name in ("srv", "home", "db", "vm")]
        data = filled(rig.volume("srv", fs="ext4", mib=128, at=paths[0]))
        rig.volume("home", fs="xfs", mib=320, at=paths[1])
        rig.volume("db", fs="ext4", mib=96, at=paths[2])
        rig.volume("vm", kind="thin", fs="ext4", mib=64, at=paths[3])
        server = kept.Server(paths[2] / "redis", "live", *kept.ALWAYS)
        try:
            config, go = rig.path("config.yaml"), rig.path("go")
            entry = {"plugin": "redis", "name": "cache", "level": "pause", "options": {"socket": server.socket}}
            config.write_text(json.dumps({"applications": [entry]}))
            words = [word for path in paths for word in ("--path", path)]
            wait = f"while [ ! -e {go} ]; do sleep 0.2; done"
            running = Run("run", "--config", config, "--snapshot-size", "16M", *words, "--", "sh", "-c", wait)
            running.step("command")
            overwrite(data, 40, pause=0.3)
            go.touch()
            print(running.end(0).err)
        finally:
            server.end()
        made = certificates.read()
        print(f"certificate: {json.dumps(made)}")
        grown = {one["volume"].partition("/")[2]: one["space"]["grown"] for one in made["volumes"] if one["space"]}
        assert grown["srv"] > 0
        assert made["applications"][0]["consistency"] == "application"
        for name in ("report", "history"):
            told = borg_lvm(name).out
            print(told)
            assert max(map(len, told.splitlines())) <= 80
        assert_nothing_left(rig)


@pytest.mark.needs("restic")
def test_an_archive_leads_to_its_certificate(rig: Rig) -> None:
    """The script of docs/reference.md, word for word but for its paths."""
    with tidy():
        source = filled(rig.volume("data", fs="ext4", mib=64, at=rig.path("data")), files=1)
        borg, restic = Borg.made(rig.path("borg")), Restic.made(rig.path("restic"))
        text = REFERENCE.read_text().partition("# cat /usr/local/sbin/backup\n")[2].partition("# borg-lvm run")[0]
        assert "$BORG_LVM_RUN" in text
        text = text.replace("/backup/repo", str(borg.repository)).replace(" /srv", f" {source}")
        backup, env = script(rig.directory, "backup", text), {**borg.env, **restic.env}
        borg_lvm("run", "--path", source, "--", backup, env=env)
        made = certificates.read()
        told = run("borg", "info", "--last", "1", borg.repository, env=env).out
        assert f"Comment: {made['run']}\n" in told
        (snapshot,) = json.loads(run("restic", "snapshots", "--json", env=env).out)
        assert snapshot["tags"] == [f"run-{made['run']}"]
        assert json.loads(borg_lvm("report", made["run"], "--json").out) == made
        # The instant is that of the certificate.
        probe = script(rig.directory, "probe", f"#!/bin/sh\necho $BORG_LVM_INSTANT >{rig.path('instant')}\n")
        borg_lvm("run", "--path", source, "--", probe)
        instant = datetime.fromisoformat(rig.path("instant").read_text().strip())
        assert instant.timestamp() == int(certificates.read()["instants"][0]["time"])
        assert_nothing_left(rig)


def test_a_thin_volume_tells_of_its_pool(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", kind="thin", fs="ext4", mib=64, at=rig.path("data"))
        borg_lvm("run", "--path", rig.path("data"), "--", "sleep", "4")
        made = certificates.read()
        assert made["volumes"][0]["space"] is None
        assert [(one["pool"], one["what"]) for one in made["pools"]] == [
            (f"{volume.group.name}/pool", "data"),
            (f"{volume.group.name}/pool", "metadata"),
        ]
        assert all(0 < one["curve"][-1][1] < one["curve"][-1][2] for one in made["pools"])
        assert f"the data of the thin pool {volume.group.name}/pool filled:" in borg_lvm("report").out
        assert_nothing_left(rig)


def test_how_long_a_volume_stood_still_is_never_told_too_short(rig: Rig) -> None:
    """A window that takes its time is seen."""
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window()
        live = Run("run", "--path", str(volume.at), "--", "true", programs=programs)
        gate.reached(process=live.process)
        time.sleep(2)
        gate.open()
        live.end()
        assert certificates.read()["volumes"][0]["still_ms"] >= 2000
        assert_nothing_left(rig)


def test_a_run_whose_command_could_not_be_started(rig: Rig) -> None:
    volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
    assert volume.at
    no_program = volume.at / "program"
    no_program.write_bytes(b"\0" * 64)
    no_program.chmod(0o755)
    borg_lvm("run", "--path", volume.at, "--", no_program, status=126)
    made = certificates.read()
    assert (made["result"], made["status"], made["command"]["status"]) == ("failure", 126, None)
    assert str(no_program) in made["error"]["message"]
    assert made["instants"]
    assert made["released"]["state"] == "released"


def test_a_run_that_was_ended_and_one_that_had_to_go(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        gate, programs = Gate(rig.directory, "gate"), Programs(rig.path("programs"))
        at_work = programs.stop_shell("before", r"lvcreate\ *")
        first = Run("run", "--path", rig.path("data"), "--", "sh", "-c", gate.shell, programs=programs)
        at_work.reached(process=first.process)
        before = len(certificates.written())
        borg_lvm("run", "--path", rig.path("data"), "--", "true", status=75)
        assert len(certificates.written()) == before
        run_id = first.id()
        first.kill(signal.SIGTERM)
        at_work.open()
        first.end(128 + signal.SIGTERM)
        made = certificates.read(run_id)
        assert (made["result"], made["status"]) == ("failure", 128 + signal.SIGTERM)
        assert "before the command was started" in made["error"]["message"]
        assert volume.at
        assert_nothing_left(rig)


def test_a_run_that_lost_its_snapshot(rig: Rig) -> None:
    with tidy():
        data = filled(rig.volume("data", fs="ext4", mib=128, group=rig.group(mib=160), at=rig.path("data")))
        borg, gate = Borg.made(rig.path("borg")), Gate(rig.directory, "gate")
        wait = f"{gate.shell}; exec borg create {borg.archive('a')} {data}"
        running = Run("run", "--snapshot-size", "8M", "--path", data, "--", "sh", "-c", wait, env=borg.env)
        gate.reached(process=running.process)
        overwrite(data, 60, until=ended(running))
        running.end(74)
        made = certificates.read()
        assert (made["result"], made["status"], made["archive"]) == ("tainted", 74, None)
        assert made["volumes"][0]["lost"]
        assert made["volumes"][0]["curve"][-1][1] > 0
        assert made["error"]["details"]
        assert_nothing_left(rig)


def test_what_is_not_valid_is_found(rig: Rig) -> None:
    """The control: the judge of all these certificates knows a bad one."""
    borg_lvm("run", "--path", rig.volume("data", fs="ext4", mib=64, at=rig.path("data")).at or "", "--", "true")
    (path,) = [path for run_id, path in certificates.written().items() if run_id == certificates.read()["run"]]
    entry = json.loads(path.read_text())
    del entry["certificate"]["instants"]
    bad = Path(certificates.HISTORY) / "20260201T000000-abcdef.json"
    bad.write_text(json.dumps(entry))
    try:
        with pytest.raises(jsonschema.ValidationError):
            certificates.validate_new()
    finally:
        bad.unlink()
    assert os.stat(path).st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0
