"""Redis: every acknowledged write of before the instant is in the copy; and the plugin keeps the contract."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from borg_lvm.applications import Application, Wish
from borg_lvm.contract import ApplicationContract, Subject
from borg_lvm.errors import BorgLvmError
from hooks import redis
from hooks.resp import Client
from tests.rig import Rig
from tests.system.kept import BASE, Server, counted
from tests.system.live import Gate, Programs, Run, assert_nothing_left, away, tidy, wait_for
from tests.system.program import Said, borg_lvm

pytestmark = pytest.mark.limit(600)


class Stage:
    """A server on a volume, with a writer that counts."""

    def __init__(self, rig: Rig, level: str, *settings: str) -> None:
        self.rig = rig
        rig.volume("data", fs="ext4", mib=96, at=rig.path("data"))
        self.data = rig.path("data") / "redis"
        self.server = Server(self.data, "live", *settings)
        self.entry: dict[str, Any] = {
            "plugin": "redis", "level": level, "options": {"socket": self.server.socket}
        }  # fmt: skip
        self.acknowledged = 0
        self._stop = threading.Event()

    def config(self) -> list[str]:
        """Write the configuration, and return the words that name it."""
        path = BASE / "config.yaml"
        path.write_text(yaml.safe_dump({"deadline": 10, "applications": [self.entry]}))
        return ["--config", str(path), "--path", str(self.data)]

    def backup(self, copy: Path, status: int = 0) -> Said:
        """Copy what a backup would read."""
        return borg_lvm("run", *self.config(), "--", "cp", "-a", self.data, copy, status=status)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Have a client write for the length of the block."""
        client = Client(self.server.socket, 10.0)

        def write() -> None:
            while not self._stop.is_set():
                self.acknowledged = int(client.text("INCR", "n", seconds=60.0))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            wait_for(lambda: self.acknowledged > 10, "the first writes")
            yield
        finally:
            self._stop.set()
            writer.join()
            client.close()


@contextmanager
def staged(rig: Rig, level: str, *settings: str) -> Iterator[Stage]:
    """Give a stage."""
    with tidy():
        stage = Stage(rig, level, *settings)
        try:
            yield stage
        finally:
            stage.server.end()
            shutil.rmtree(BASE)


@pytest.mark.parametrize("level", ["save", "pause"])
def test_the_append_only_file_holds_every_acknowledged_write(rig: Rig, level: str) -> None:
    with staged(rig, level, "--appendonly", "yes", "--save", "") as stage:
        with stage.counting():
            before = stage.acknowledged
            said = stage.backup(rig.path("copy"))
            after = stage.acknowledged + 1
        assert f"redis: quiesced ({level}) for " in said.err
        assert before <= counted(rig.path("copy"), "--appendonly", "yes") <= after
        stage.server.do("INCR", "n")
        shutil.rmtree(rig.path("copy"))
        stage.server.end()
        assert_nothing_left(rig)


def test_without_an_append_only_file_the_last_save_is_from_just_before(rig: Rig) -> None:
    with staged(rig, "save", "--save", "") as stage:
        with stage.counting():
            before = stage.acknowledged
            stage.backup(rig.path("copy"))
            after = stage.acknowledged + 1
        assert before <= counted(rig.path("copy")) <= after
        stage.entry["level"] = "pause"
        assert "keeps none" in stage.backup(rig.path("other"), status=71).err
        stage.entry["level"] = "save"
        (stage.data / "dump.rdb").unlink()
        (stage.data / "dump.rdb").mkdir()
        assert "could not save" in stage.backup(rig.path("other"), status=71).err
        stage.server.end()
        assert "no server listens at " in stage.backup(rig.path("other"), status=71).err
        assert_nothing_left(rig)


def test_we_die_while_writers_wait(rig: Rig) -> None:
    with staged(rig, "pause", "--appendonly", "yes") as stage:
        programs = Programs(rig.path("programs"))
        gate: Gate = programs.stop("lvcreate", "before")
        run = Run("run", *stage.config(), "--", "true", programs=programs)
        gate.reached(process=run.process)
        with pytest.raises(BorgLvmError):
            stage.server.do("INCR", "n", seconds=1.0)
        run.process.kill()
        run.process.wait()
        assert int(stage.server.do("INCR", "n", seconds=60.0)) >= 1
        gate.open()
        borg_lvm("clean")
        stage.server.end()
        assert_nothing_left(rig)


class ServerSubject(Subject):
    """A server with an append-only file, for the contract."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder, "live", "--appendonly", "yes")

    def make(self, deadline: float) -> Application:
        return redis.Redis(Wish("it", "pause", deadline, redis.Options(socket=self.server.socket)))

    def write(self, seconds: float) -> bool:
        try:
            return int(self.server.do("INCR", "n", seconds=seconds)) > 0
        except BorgLvmError:
            return False

    def keeps(self) -> list[str]:
        return [str(self.server.folder)]

    def gone(self) -> AbstractContextManager[None]:
        return away(self.server.end, self.server.start)

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.server.process.send_signal(signal.SIGCONT)

    def lose(self) -> bool:
        self.server.do("CLIENT", "UNPAUSE")
        self.server.do("INCR", "n")
        return True


class TestContract(ApplicationContract):
    """The plugin keeps the contract."""

    patience = 60.0

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        made = ServerSubject(tmp_path / "data")
        yield made
        made.server.end()
        shutil.rmtree(BASE)
