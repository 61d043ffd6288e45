"""borg-lvm on a machine that is laid out as NixOS: programs, configuration and /etc are links into a store."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.hosts.nixos import PROFILE, nixos
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.servers.kept import ALWAYS, BASE, Server

pytestmark = [pytest.mark.limit(600), pytest.mark.needs("patchelf")]


@pytest.fixture
def data(rig: Rig) -> Iterator[Path]:
    """Give a volume with a file."""
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        assert volume.at
        (volume.at / "file").write_text("frozen")
        yield volume.at
        assert_nothing_left(rig)


def test_it_finds_lvm_and_its_configuration(rig: Rig, data: Path) -> None:
    with nixos(rig, "snapshot: {size: 12M}\n") as root:
        words = ("--path", data, "--", "cat", data / "file")
        assert "12.0 MiB" in root.do("borg-lvm", "plan", *words).out
        assert "would work" in root.do("borg-lvm", "check", *words).out
        said = root.do("borg-lvm", "run", *words)
        assert said.out == "frozen"
        assert re.search(r"frozen at .*/data", said.err)


def test_what_a_program_of_the_store_has_saved_is_proven(rig: Rig, data: Path) -> None:
    with nixos(rig) as root:
        tar = f"{PROFILE}/sw/bin/tar"
        root.do("borg-lvm", "run", "--prove", "all", "--", tar, "-cf", rig.path("saved.tar"), data)
        proof = json.loads(root.do("borg-lvm", "report", "--json").out)["proof"]
        assert (proof["state"], len(proof["archives"])) == ("proven", 1)


@pytest.mark.needs("redis")
def test_a_drill_starts_the_stores_server(rig: Rig) -> None:
    """The backup is made before, by the machine itself: it is drilled where it was restored to, which is NixOS."""
    with tidy():
        drills = Drills.made(rig)
        server = Server(drills.data / "redis", "live", *ALWAYS)
        try:
            server.do("SET", "key", "x")
            server.do("SAVE")
            drills.applications.append({"plugin": "redis", "options": {"socket": server.socket}})
            command = drills.command()
            drills.saved(command)
            with nixos(rig) as root:
                words = ("--config", drills.config(), "--scratch", rig.path("scratch"), "--", *command)
                assert verdicts(root.do("borg-lvm", "drill", *words)) == {"redis": "good"}
        finally:
            server.end()
            shutil.rmtree(BASE)
