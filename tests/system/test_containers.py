"""Containers of podman and Docker: what they write stands still at the instant; and the plugins keep the contract."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from borg_lvm.errors import AbsentError
from borg_lvm.plugins.application import Application, ApplicationSettings
from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.applications.containers import plugin as containers
from tests.rig import Rig
from tests.system.support.hosts.boxes import Boxes, boxes
from tests.system.support.runs.live import Programs, Run, assert_nothing_left, away, tidy, wait_for
from tests.system.support.runs.program import borg_lvm
from tests.system.support.writers.worker import COUNTER, SCRIPT, Words, WorkerSubject, script, torn

pytestmark = pytest.mark.limit(600)
BASE = Path("/run/borg-lvm-test-containers")
NAME = "borg-lvm-words"
PODMAN, DOCKER = pytest.mark.needs("podman"), (pytest.mark.needs("docker"), pytest.mark.soak)
LEVELS = [
    pytest.param("podman pause", marks=PODMAN),
    pytest.param("podman freeze", marks=[PODMAN, pytest.mark.soak]),
    *(pytest.param(words, marks=DOCKER) for words in ("docker pause", "docker freeze")),
]


def engine(name: str) -> Iterator[Boxes]:
    BASE.mkdir(mode=0o755, exist_ok=True)
    with boxes(name, BASE / name) as made:
        yield made


@pytest.fixture(scope="module")
def podman() -> Iterator[Boxes]:
    yield from engine("podman")


@pytest.fixture(scope="module")
def docker() -> Iterator[Boxes]:
    yield from engine("docker")


@pytest.fixture(params=[pytest.param("podman", marks=PODMAN), pytest.param("docker", marks=DOCKER)])
def box(request: pytest.FixtureRequest) -> Iterator[Boxes]:
    made: Boxes = request.getfixturevalue(request.param)
    yield made
    made.remove(NAME, "idle")


def config(entry: dict[str, Any] | None, *paths: Path) -> list[str | Path]:
    """Write the configuration and return the words that name it."""
    path = BASE / "config.yaml"
    path.write_text(yaml.safe_dump({"applications": [entry] if entry else []}))
    return ["--config", path, *(f"--path={path}" for path in paths)]


def started(rig: Rig, box: Boxes) -> tuple[Path, Words]:
    """Start a worker whose directory is a volume."""
    data = rig.path("data")
    rig.volume("data", fs="ext4", mib=64, at=data)
    box.start(NAME, script(BASE / "worker", SCRIPT.format(directory=data)), data)
    words = Words(data)
    assert words.write(60)
    return data, words


@pytest.mark.soak
@pytest.mark.parametrize("level", ["pause", "freeze"])
def test_what_is_paused_shows_one_instant_on_volumes_that_are_taken_one_after_the_other(
    rig: Rig, box: Boxes, level: str
) -> None:
    with tidy():
        one, two = rig.path("one"), rig.path("two")
        for path in (one, two):
            rig.volume(path.name, fs="ext4", mib=64, at=path)
        box.start(NAME, script(BASE / "counter", COUNTER.format(one=one, two=two)), one, two)
        wait_for((two / "n").exists, "the first numbers")
        first, second = torn(config(None, one, two), one, two, rig.path("control"))
        assert abs(first - second) > 1, "the control has not shown the tear"
        entry = {"plugin": box.engine, "level": level, "options": {"containers": [NAME]}}
        first, second = torn(config(entry, one, two), one, two, rig.path("programs"))
        assert 0 <= first - second <= 1
        assert box.facts(NAME)["State"]["Status"] == "running"
        box.remove(NAME)
        assert_nothing_left(rig)


@pytest.mark.parametrize("level", ["pause", pytest.param("freeze", marks=pytest.mark.soak)])
def test_we_die_while_it_stands_still(rig: Rig, box: Boxes, level: str) -> None:
    with tidy():
        data, words = started(rig, box)
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window()
        entry = {"plugin": box.engine, "level": level, "deadline": 8, "options": {"containers": [NAME]}}
        running = Run("run", *config(entry, data), "--", "true", programs=programs)
        gate.reached(process=running.process)
        assert not words.write(0.5)
        begin = time.monotonic()
        running.process.kill()
        running.process.wait()
        assert words.write(8)
        print(f"{box.engine}, {level}: it wrote again {time.monotonic() - begin:.1f} s after our end")
        gate.open()
        borg_lvm("clean")
        assert box.facts(NAME)["State"]["Status"] == "running"
        box.remove(NAME)
        assert_nothing_left(rig)


@pytest.mark.soak
def test_what_they_keep_is_told_and_the_idle_are_left_so(rig: Rig, box: Boxes) -> None:
    with tidy():
        data, words = started(rig, box)
        other = rig.path("other")
        rig.volume("other", fs="ext4", mib=64, at=other)
        nothing = script(BASE / "nothing", "#!/bin/sh\n")
        box.start("idle", nothing, other, Path("/run"))
        wait_for(lambda: box.facts("idle")["State"]["Status"] == "exited", "its end")
        entry: dict[str, Any] = {"plugin": box.engine, "options": {"containers": ["idle", NAME]}}
        refused = borg_lvm("plan", *config(entry, data), "--", "true", status=69).err
        assert f"{other} (bind {other} of idle)" in refused
        assert "/run (" not in refused, "it lies in memory"
        entry["coverage"] = "partly"
        plan = borg_lvm("plan", *config(entry, data), "--", "true").out
        assert "idle is exited: it is left so" in plan
        assert f"{box.engine}: quiesced (pause) for " in borg_lvm("run", *config(entry, data), "--", "true").err
        assert words.write(60)
        assert box.facts("idle")["State"]["Status"] == "exited"
        entry["options"]["containers"] = [NAME, "no-such"]
        assert "no-such" in borg_lvm("run", *config(entry, data), "--", "true", status=71).err
        box.remove(NAME, "idle")
        assert_nothing_left(rig)


@pytest.mark.soak
def test_one_that_is_made_anew_is_not_taken_for_the_old_one(box: Boxes) -> None:
    data = BASE / "data"
    data.mkdir(exist_ok=True)
    sleeping = script(BASE / "sleeping", "#!/bin/sh\nsleep 10000\n")
    box.start(NAME, sleeping, data)
    made = containers.Paused(ApplicationSettings("it", "pause", 8.0, containers.Options((NAME,))), box.engine)
    made.probe()
    box.remove(NAME)
    box.start(NAME, sleeping, data)
    with pytest.raises(Exception, match="has been made anew meanwhile"):
        made.intents()
    made.close()


def test_without_an_engine_all_containers_are_absent() -> None:
    with pytest.raises(AbsentError):
        containers.Containers(
            ApplicationSettings("it", "pause", 8.0, containers.Options((NAME,))), "no-such-engine"
        ).probe()


class BoxSubject(WorkerSubject):
    """A worker in a container, for the contract."""

    def __init__(self, box: Boxes, level: str, data: Path) -> None:
        self.box = box
        super().__init__(data)
        self.level = level
        self.start()

    def start(self) -> None:
        """Start it, and wait until it works."""
        self.box.start(NAME, script(BASE / "worker", SCRIPT.format(directory=self.data)), self.data)
        assert self.words.write(60)

    def make(self, deadline: float) -> Application:
        kind = containers.Paused if self.level == "pause" else containers.Containers
        return kind(ApplicationSettings("it", self.level, deadline, containers.Options((NAME,))), self.box.engine)

    def gone(self) -> AbstractContextManager[None]:
        return away(lambda: self.box.remove(NAME), self.start)

    def stopped(self) -> AbstractContextManager[None]:
        return away(lambda: self.box.do("pause", NAME), lambda: self.box.do("unpause", NAME))

    def lose(self) -> bool:
        return self.thawed_for_a_moment(self.box.group(NAME))


class TestContract(ApplicationContract):
    """The plugins keep the contract."""

    patience = 60.0
    deadline = 6.0

    @pytest.fixture(scope="class", params=LEVELS)
    @classmethod
    def subject(cls, request: pytest.FixtureRequest) -> Iterator[Subject]:
        name, level = request.param.split()
        box: Boxes = request.getfixturevalue(name)
        with Rig() as rig:
            rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
            try:
                yield BoxSubject(box, level, rig.path("data"))
            finally:
                box.remove(NAME)
