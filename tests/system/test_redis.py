"""Redis: every acknowledged write of before the instant is in the copy; and the plugin keeps the contract."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from borg_lvm.errors import BorgLvmError, QuiesceError
from borg_lvm.plugins.application import Application, ApplicationSettings
from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.applications.redis import plugin as redis
from borg_lvm_hooks.applications.redis import verify
from borg_lvm_hooks.applications.redis.resp import Client
from tests.rig import Rig
from tests.system.support.runs.live import Gate, Programs, Run, assert_nothing_left, away, tidy, wait_for
from tests.system.support.runs.program import Said, borg_lvm
from tests.system.support.servers.kept import ALWAYS, BASE, Server, counted

pytestmark = [pytest.mark.limit(600), pytest.mark.needs("redis")]


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


@pytest.mark.parametrize("level", [pytest.param("save", marks=pytest.mark.soak), "pause"])
def test_the_append_only_file_holds_every_acknowledged_write(rig: Rig, level: str) -> None:
    with staged(rig, level, "--appendonly", "yes", "--save", "") as stage:
        with stage.counting():
            before = stage.acknowledged
            said = stage.backup(rig.path("copy"))
            after = stage.acknowledged + 1
        assert f"redis: quiesced ({level}) for " in said.err
        assert "verified in the snapshot: append-only file, 2 of its 2 files read to the end" in said.err
        assert before <= counted(rig.path("copy"), "--appendonly", "yes") <= after
        stage.server.do("INCR", "n")
        shutil.rmtree(rig.path("copy"))
        with (stage.data / f"{LOGS}.1.incr.aof").open("ab") as file:
            file.write(bytes(100))  # as of a disk that is failing: the server itself notices nothing
        assert "1.incr.aof holds something else than commands at byte" in stage.backup(rig.path("copy"), status=71).err
        assert not rig.path("copy").exists()
        stage.server.end()
        assert_nothing_left(rig)


def test_without_an_append_only_file_the_last_save_is_from_just_before(rig: Rig) -> None:
    with staged(rig, "save", "--save", "") as stage:
        with stage.counting():
            before = stage.acknowledged
            said = stage.backup(rig.path("copy"))
            after = stage.acknowledged + 1
        assert "verified in the snapshot: dump.rdb with its checksum" in said.err
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
        gate: Gate = programs.stop_window()
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


@pytest.mark.soak
def test_a_save_that_goes_on_already_is_waited_for(rig: Rig) -> None:
    with staged(rig, "save", "--save", "") as stage:
        stage.server.do("MSET", *(word for number in range(40) for word in (f"key{number}", "value")))
        stage.server.do("CONFIG", "SET", "rdb-key-save-delay", "50000")  # microseconds for each key
        stage.server.do("BGSAVE")
        stage.server.do("SET", "n", "7")
        assert "verified in the snapshot: dump.rdb with its checksum" in stage.backup(rig.path("copy")).err
        assert counted(rig.path("copy")) == 7
        stage.server.end()
        assert_nothing_left(rig)


LOGS = "appendonlydir/appendonly.aof"
WRONG: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "a manifest that names nothing": (f"{LOGS}.manifest", lambda _: b"", "names no files"),
    "a part that is missing": (
        f"{LOGS}.manifest",
        lambda whole: whole.replace(b"incr.aof", b"gone.aof"),
        "cannot be read",
    ),
    "a dump that is changed": (f"{LOGS}.1.base.rdb", lambda whole: changed(whole, 30), "CRC"),
    "a dump that is cut": (f"{LOGS}.1.base.rdb", lambda whole: whole[:-5], "does not begin and end as a dump does"),
    "a command that is changed": (
        f"{LOGS}.1.incr.aof",
        lambda whole: changed(whole, 1),
        "something else than commands",
    ),
    "a word that is longer": (f"{LOGS}.1.incr.aof", lambda whole: changed(whole, 5), "something else than commands"),
    "an end of zeros": (f"{LOGS}.1.incr.aof", lambda whole: whole + bytes(100), "something else than commands"),
}


def changed(whole: bytes, place: int) -> bytes:
    """Return the same with a byte changed."""
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


@pytest.mark.soak
def test_a_wrong_copy_is_told(tmp_path: Path) -> None:
    """And a right one that lacks its end is not taken for one: a server that starts on it leaves that out."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    server = Server(live, "live", *ALWAYS)
    known = verify.Known(str(copy / "dump.rdb"), str(copy / f"{LOGS}.manifest"), 0)
    try:
        for number in range(20):
            server.do("SET", f"key{number}", "a value\r\n$7\r\n*3\r\n")
        server.do("SAVE")
        log = (live / f"{LOGS}.1.incr.aof").read_bytes()
        copied = partial(shutil.copytree, live, copy, dirs_exist_ok=True)
        for missing in range(0, 100, 7):  # more than a command
            copied()
            (copy / f"{LOGS}.1.incr.aof").write_bytes(log[: len(log) - missing])
            assert verify.verify(known, 60.0) == "append-only file, 2 of its 2 files read to the end"
        for what, (name, change, told) in WRONG.items():
            copied()
            (copy / name).write_bytes(change((live / name).read_bytes()))
            with pytest.raises(QuiesceError, match=told):
                pytest.fail(f"{what} was found right: {verify.verify(known, 60.0)}")
        copied()
        dump = replace(known, manifest="")
        assert verify.verify(dump, 60.0) == "dump.rdb with its checksum"
        with pytest.raises(QuiesceError, match="is of an earlier save"):
            verify.verify(replace(dump, saved=int(time.time()) + 10), 60.0)
        (copy / "dump.rdb").unlink()
        with pytest.raises(QuiesceError, match="cannot be read"):
            verify.verify(dump, 60.0)
    finally:
        server.end()
        shutil.rmtree(BASE)


class ServerSubject(Subject):
    """A server with an append-only file, for the contract."""

    def __init__(self, directory: Path) -> None:
        self.server = Server(directory, "live", "--appendonly", "yes")

    def make(self, deadline: float) -> Application:
        return redis.Redis(ApplicationSettings("it", "pause", deadline, redis.Options(socket=self.server.socket)))

    def write(self, seconds: float) -> bool:
        try:
            return int(self.server.do("INCR", "n", seconds=seconds)) > 0
        except BorgLvmError:
            return False

    def keeps(self) -> list[str]:
        return [str(self.server.directory)]

    def gone(self) -> AbstractContextManager[None]:
        return away(self.server.end, self.server.start)

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.server.process.send_signal(signal.SIGCONT)

    @contextmanager
    def damaged(self) -> Iterator[None]:
        log = self.server.directory / f"{LOGS}.1.incr.aof"
        aside = log.with_name("aside")
        log.rename(aside)
        try:
            log.write_bytes(b"\0" * 100)
            yield
        finally:
            aside.replace(log)

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
