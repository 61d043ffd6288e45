"""Units of a real systemd: what they write stands still at the instant; and the plugin keeps the contract."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from borg_lvm.errors import AbsentError, QuiesceError
from borg_lvm.plugins.application import Application, ApplicationSettings
from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.applications.systemd import plugin as systemd
from tests.rig import Rig
from tests.system.support.hosts.units import CGROUPS, Manager, managed
from tests.system.support.runs.live import Programs, Run, assert_nothing_left, away, tidy, wait_for
from tests.system.support.runs.program import BIN, Said, borg_lvm, run
from tests.system.support.writers.worker import COUNTER, SCRIPT, Words, WorkerSubject, script, torn

pytestmark = pytest.mark.limit(600)
BASE = Path("/run/borg-lvm-test-systemd")
UNIT = "words.service"


@pytest.fixture(scope="module")
def one_manager() -> Iterator[Manager]:
    BASE.mkdir(mode=0o755)
    try:
        with managed(BASE / "units") as made:
            yield made
    finally:
        run("rm", "-r", BASE)


@pytest.fixture
def manager(one_manager: Manager) -> Iterator[Manager]:
    yield one_manager
    one_manager.do("stop", "*.service")


class Stage:
    """A worker on a volume, in a unit, and the configuration that holds it still."""

    def __init__(self, rig: Rig, manager: Manager, level: str = "freeze") -> None:
        self.rig = rig
        self.manager = manager
        self.data = rig.path("data")
        rig.volume("data", fs="ext4", mib=64, at=self.data)
        manager.add(UNIT, str(script(BASE / "worker", SCRIPT.format(directory=self.data))))
        self.words = Words(self.data)
        self.options: dict[str, Any] = {"units": [UNIT], "paths": [str(self.data)]}
        self.level = level
        self.deadline = 8
        assert self.words.write(60)

    def config(self, *paths: Path) -> list[str]:
        """Write the configuration and return the words that name it."""
        entry = {"plugin": "systemd", "level": self.level, "deadline": self.deadline, "options": self.options}
        (BASE / "config.yaml").write_text(yaml.safe_dump({"applications": [entry]}))
        return ["--config", str(BASE / "config.yaml"), *(f"--path={path}" for path in paths or (self.data,))]

    def run(self, *command: str, status: int = 0) -> Said:
        """Run a backup."""
        return borg_lvm("run", *self.config(), "--", *(command or ("true",)), status=status)


def counted(rig: Rig, manager: Manager, options: dict[str, Any]) -> tuple[int, int]:
    """Back up a counter's two volumes, each at an instant of its own; return what the copies show."""
    one, two = rig.path("one"), rig.path("two")
    for path in (one, two):
        if not path.exists():
            rig.volume(path.name, fs="ext4", mib=64, at=path)
    if not manager.is_active("counter.service"):
        manager.add("counter.service", str(script(BASE / "counter", COUNTER.format(one=one, two=two))))
    wait_for((two / "n").exists, "the first numbers")
    entry = {"plugin": "systemd", "options": options}
    (BASE / "config.yaml").write_text(yaml.safe_dump({"applications": [entry] if options else []}))
    words: list[str | Path] = ["--config", BASE / "config.yaml", "--path", one, "--path", two]
    return torn(words, one, two, rig.path(f"programs-{bool(options)}"))


@pytest.mark.needs("systemd")
def test_what_is_frozen_shows_one_instant_on_volumes_that_are_taken_one_after_the_other(
    rig: Rig, manager: Manager
) -> None:
    with tidy():
        first, second = counted(rig, manager, {})
        assert abs(first - second) > 1, "the control has not shown the tear"
        paths = [str(rig.path("one")), str(rig.path("two"))]
        first, second = counted(rig, manager, {"units": ["counter.service"], "paths": paths})
        assert 0 <= first - second <= 1
        assert manager.is_active("counter.service")
        manager.do("stop", "counter.service")
        assert_nothing_left(rig)


@pytest.mark.parametrize("level", ["freeze", pytest.param("stop", marks=pytest.mark.soak)])
@pytest.mark.needs("systemd")
def test_we_die_while_it_stands_still(rig: Rig, manager: Manager, level: str) -> None:
    with tidy():
        stage = Stage(rig, manager, level)
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window()
        running = Run("run", *stage.config(), "--", "true", programs=programs)
        gate.reached(process=running.process)
        assert not stage.words.write(0.5)
        begin = time.monotonic()
        running.process.kill()
        running.process.wait()
        assert stage.words.write(stage.deadline)
        print(f"{level}: it wrote again {time.monotonic() - begin:.1f} s after our end")
        gate.open()
        borg_lvm("clean")
        manager.do("stop", UNIT)
        assert_nothing_left(rig)


@pytest.mark.needs("systemd")
def test_units_are_told_and_left_as_they_were(rig: Rig, manager: Manager) -> None:
    with tidy():
        stage = Stage(rig, manager)
        manager.add("idle.service", "/bin/true")
        wait_for(lambda: not manager.is_active("idle.service"), "its end")
        stage.options["units"] = ["idle.service", UNIT]
        plan = borg_lvm("plan", *stage.config(), "--", "true").out
        assert "idle.service does not run: it is left so" in plan
        assert "systemd: quiesced (freeze) for " in stage.run().err
        assert not manager.is_active("idle.service")
        stage.level = "stop"
        began = manager.do("show", "--property=ActiveEnterTimestampMonotonic", UNIT).out
        stage.run()
        assert manager.is_active(UNIT)
        assert manager.do("show", "--property=ActiveEnterTimestampMonotonic", UNIT).out != began
        assert not manager.is_active("idle.service")
        stage.options["units"] = ["no-such.service", UNIT]
        assert "there is no unit no-such.service" in stage.run(status=71).err
        manager.do("stop", UNIT)
        assert_nothing_left(rig)


@pytest.mark.needs("systemd")
def test_who_is_stopped_with_a_unit_is_started_with_it(rig: Rig, manager: Manager) -> None:
    with tidy():
        stage = Stage(rig, manager, "stop")
        manager.add("front.service", "/bin/sleep 10000", more=f"Requires={UNIT}\nAfter={UNIT}")
        assert "front.service is stopped with it" in borg_lvm("plan", *stage.config(), "--", "true").out
        stage.run()
        assert manager.is_active(UNIT)
        assert manager.is_active("front.service")
        for unit in (UNIT, "front.service"):
            manager.do("stop", unit)
        assert_nothing_left(rig)


@pytest.mark.needs("systemd")
def test_what_we_need_is_refused(rig: Rig, manager: Manager) -> None:
    with tidy():
        stage = Stage(rig, manager)
        group = CGROUPS / "system.slice" / UNIT
        inside = ["sh", "-ec", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh", str(BIN / "borg-lvm")]
        said = run(*inside, "run", *stage.config(), "--", "true", status=71)
        assert f"{UNIT} must not be frozen: borg-lvm itself was started in it" in said.err
        shutil.copy("/bin/sleep", BASE / "dmeventd")  # a link would be sleep by another name
        manager.add("needed.service", f"{BASE}/dmeventd 10000")
        for level in ("freeze", "stop"):
            stage.level = level
            stage.options["units"] = ["needed.service"]
            assert "needed.service must not be frozen: dmeventd runs in it" in stage.run(status=71).err
        stage.level, stage.options["units"] = "freeze", ["system.slice"]
        assert "system.slice must not be frozen: dmeventd runs in it" in stage.run(status=71).err
        manager.remove("needed.service")
        assert "systemd: quiesced (freeze) for " in stage.run().err
        manager.do("stop", UNIT)
        assert_nothing_left(rig)


@pytest.mark.needs("systemd")
def test_a_watchdog_that_would_bite_is_refused(manager: Manager) -> None:
    (BASE / "data").mkdir()
    manager.add("dog.service", "/bin/sleep 10000")
    path = manager.directory / "dog.service"
    path.write_text(path.read_text() + "WatchdogSec=12\n")
    manager.do("daemon-reload")
    manager.do("restart", "dog.service")
    made = systemd._make(ApplicationSettings("it", "freeze", 8.0, systemd.Options(("dog.service",))))
    with pytest.raises(QuiesceError, match="hears nothing of it for 12 s") as caught:
        made.probe()
    assert "deadline of 6 s or less" in caught.value.remedy


def test_without_systemd_all_units_are_absent() -> None:
    if Path("/run/systemd/system").exists():
        pytest.skip("systemd runs here")
    with pytest.raises(AbsentError):
        systemd._make(ApplicationSettings("it", "freeze", 8.0, systemd.Options(("dog.service",)))).probe()


class UnitSubject(WorkerSubject):
    """A worker in a unit, for the contract."""

    level = "freeze"

    def __init__(self, manager: Manager, data: Path) -> None:
        super().__init__(data)
        self.manager = manager
        self.program = str(script(BASE / "worker", SCRIPT.format(directory=data)))
        manager.add(UNIT, self.program)
        assert self.words.write(60)

    def make(self, deadline: float) -> Application:
        return systemd._make(
            ApplicationSettings("it", self.level, deadline, systemd.Options((UNIT,), (str(self.data),)))
        )

    def gone(self) -> AbstractContextManager[None]:
        return away(lambda: self.manager.remove(UNIT), lambda: self.manager.add(UNIT, self.program))

    def stopped(self) -> AbstractContextManager[None]:
        """As `systemctl freeze` does, which needs the message bus."""
        file = CGROUPS / "system.slice" / UNIT / "cgroup.freeze"
        return away(lambda: file.write_text("1"), lambda: file.write_text("0"))

    def lose(self) -> bool:
        return self.thawed_for_a_moment(CGROUPS / "system.slice" / UNIT)


class StoppedSubject(UnitSubject):
    """The same at the level stop."""

    level = "stop"

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Have it not heed that it is to end."""
        stubborn = self.data / "stubborn"
        stubborn.touch()
        try:
            yield
        finally:
            stubborn.unlink()

    def stopped(self) -> AbstractContextManager[None]:
        return away(lambda: self.manager.do("stop", UNIT), lambda: self.manager.do("start", UNIT))

    def lose(self) -> bool:
        self.manager.do("start", UNIT)
        return True


@pytest.mark.needs("systemd")
class TestContractFreeze(ApplicationContract):
    """Frozen units keep the contract."""

    patience = 60.0
    deadline = 3.0
    kind: type[UnitSubject] = UnitSubject

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, one_manager: Manager) -> Iterator[Subject]:
        with Rig() as rig:
            rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
            yield cls.kind(one_manager, rig.path("data"))
            one_manager.do("stop", UNIT)


@pytest.mark.soak
class TestContractStop(TestContractFreeze):
    """Stopped units keep the contract."""

    kind = StoppedSubject
