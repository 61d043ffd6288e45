"""`borg-lvm discover` beside real servers, services and containers: it prints what covers them, and that works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rig import Rig
from tests.system.support.hosts.boxes import boxes
from tests.system.support.hosts.units import CGROUPS, managed
from tests.system.support.runs.live import assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import BIN, Said, borg_lvm, run
from tests.system.support.servers.kept import BASE as REDIS
from tests.system.support.servers.kept import Server
from tests.system.support.servers.postgres import Cluster, cluster
from tests.system.support.writers.worker import SCRIPT, Words, script

pytestmark = pytest.mark.limit(600)
BASE = Path("/run/borg-lvm-test-discover")


@pytest.fixture
def base() -> Iterator[Path]:
    BASE.mkdir(mode=0o755)
    yield BASE
    shutil.rmtree(BASE)


def entries(said: Said) -> list[dict[str, Any]]:
    """Return the entries that were printed."""
    found: list[dict[str, Any]] = yaml.safe_load(said.out)["applications"]
    return found


@pytest.mark.soak
@pytest.mark.needs("postgresql", "redis", "podman")
def test_servers_and_containers_are_found_and_then_told_as_configured(rig: Rig, base: Path) -> None:
    rig.directory.chmod(0o755)
    nothing = base / "nothing.yaml"
    nothing.write_text("")
    config = base / "config.yaml"
    said = borg_lvm("discover", "--config", nothing)
    assert said.out == ""
    assert "nothing runs here" in said.err
    data = rig.path("data")
    rig.volume("data", fs="ext4", mib=160, at=data)
    with tidy(), cluster(Cluster(data / "db", rig.path("sockets")), {}) as server:
        redis = Server(data / "redis")
        with boxes("podman", base / "podman") as box:
            try:
                directory = data / "box"
                directory.mkdir()
                box.start("borg-lvm-box", script(base / "worker", SCRIPT.format(directory=directory)), directory)
                assert Words(directory).write(60)
                said = borg_lvm("discover", "--config", nothing)
                config.write_text(said.out)
                assert entries(said) == [
                    {"plugin": "podman", "name": "borg-lvm-box", "options": {"containers": ["borg-lvm-box"]}},
                    {"plugin": "postgresql", "options": {"socket": str(server.sockets)}},
                    {"plugin": "redis", "options": {"socket": redis.socket}},
                ]
                said = borg_lvm("check", "--json", "--config", nothing, "--path", data / "redis", "--path", directory)
                found = [one for one in json.loads(said.out)["findings"] if one["about"] == "not configured"]
                levels = {one["message"]: one["level"] for one in found}
                (outside,) = (words for words in levels if "PostgreSQL listens" in words)
                assert f"its data is not saved: {server.data}: the command does not read it" in outside
                assert levels.pop(outside) == "warning"
                assert list(levels.values()) == ["note", "note"]  # redis and the container
                assert all(words.endswith(": it is saved as a power cut would leave it") for words in levels)
                assert "not configured" not in borg_lvm("check", "--config", config, "--path", data).out
                again = borg_lvm("discover", "--config", config)
                assert again.out == ""
                assert "configured already, as borg-lvm-box" in again.err
                told = " ".join(borg_lvm("hooks", "postgresql", "--config", config).out.split())
                assert f"keeps {server.data} (data)" in told
                told = " ".join(borg_lvm("hooks", "redis", "--config", nothing).out.split())
                assert "not configured redis-server listens at" in told
                done = borg_lvm("run", "--trace", "--config", config, "--path", data, "--", "true").err
                assert "borg-lvm-box: quiesced (pause) for " in done
                calls = ["redis: probe: done", "redis: quiesce: done", "redis: confirm: done", "redis: resume: done"]
                places = [done.index(f"trace: {call}") for call in calls]
                assert places == sorted(places)
            finally:
                box.remove("borg-lvm-box")
                redis.end()
                shutil.rmtree(REDIS)
    assert_nothing_left(rig)


@pytest.mark.needs("systemd")
def test_a_service_that_writes_to_a_volume_is_found_with_its_directory(rig: Rig, base: Path) -> None:
    data = Path("/srv/borg-lvm-test-discover")  # where data lies: not below /dev, as the rig's own directories do
    rig.volume("data", fs="ext4", mib=64, at=data)
    (data / "shop").mkdir()
    holder = f"#!/bin/sh\nexec sleep 10000 3>>{data}/shop/file 4<{data}/read\n"
    (data / "read").touch()
    with managed(base / "units") as manager:
        manager.add("shop@one.service", str(script(base / "shop", holder)))
        manager.add("reader.service", str(script(base / "reader", f"#!/bin/sh\nexec sleep 10000 3<{data}/read\n")))
        wait_for(lambda: manager.is_active("shop@one.service"), "the service")
        nothing = base / "nothing.yaml"
        nothing.write_text("")
        odd = os.fsencode(CGROUPS) + b"/\xff"  # as who has a control group to themselves may call one below it
        os.mkdir(odd)
        sleeper = subprocess.Popen([*manager.inside, "sh", "-c", 'echo $$ >"$0"/cgroup.procs; exec sleep 10000', odd])
        wait_for(lambda: Path(os.fsdecode(odd), "cgroup.procs").read_text(), "the process in the group")

        def look() -> list[dict[str, Any]]:
            said = run(*manager.inside, BIN / "borg-lvm", "discover", "--config", nothing)
            return entries(said) if said.out else []

        (one,) = wait_for(look, "the service")
        assert one == {
            "plugin": "systemd",
            "name": "shop-one",
            "options": {"units": ["shop@one.service"], "paths": [str(data)]},
        }
        manager.do("stop", "shop@one.service", "reader.service")
        Path(os.fsdecode(odd), "cgroup.kill").write_text("1")
        sleeper.wait()
        wait_for(lambda: not Path(os.fsdecode(odd), "cgroup.procs").read_text(), "the end of the process in the group")
        os.rmdir(odd)
    assert_nothing_left(rig)
