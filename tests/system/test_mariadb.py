"""MariaDB over three volumes, hot, with all of its engines: the copy is whole; and the plugin keeps the contract."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_lvm.errors import QuiesceError
from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.applications.mysql import mariadb
from borg_lvm_hooks.applications.mysql.verify_mariadb import LSN
from tests.rig import Rig
from tests.system.support.runs.live import Programs, assert_nothing_left, hidden, wait_for
from tests.system.support.servers.maria import BASE, Position, Server, client
from tests.system.support.servers.sql_stage import ServerSubject, is_tried_again, staged, without_what_is_needed

pytestmark = [pytest.mark.limit(7200), pytest.mark.needs("mariadb")]  # seconds; a fraction of it on an idle machine
JUDGED = int(os.environ.get("BORG_LVM_JUDGED", "1"))
"""How many copies are judged; `make soak` takes 10."""
PAUSE = 2.0  # seconds that are put before each snapshot of the control


def test_a_server_over_three_volumes_comes_back_whole_and_at_a_known_position(rig: Rig) -> None:
    with staged(rig) as stage:
        for number in range(JUDGED):
            with stage.server.busy():
                said = stage.backup(f"copy{number}")
            assert "mariadb: quiesced (lock) for " in said.err
            assert "; verified in the snapshot: redo log from checkpoint " in said.err
            position = Position.told(said)
            assert stage.judge(f"copy{number}", position) == []
        # The same from a position that is three transactions too late: the judge must see that something is missing.
        wrong = stage.judge("copy0", stage.server.later(position, 3))
        assert any(line.startswith("live shop.isam") for line in wrong), wrong
        stage.server.end()
        assert_nothing_left(rig)


@pytest.mark.soak
def test_the_judge_sees_what_was_not_of_one_instant_or_not_locked(rig: Rig) -> None:
    programs = Programs(rig.path("programs"))
    programs.delay("lvm", PAUSE)
    with staged(rig) as stage:
        found = without_what_is_needed(stage, programs)
        # Tables without transactions were being written.
        assert any("shop.isam" in line or "shop.aria" in line for line in found["unlocked"])
        assert found["live"]
        torn = found["sequential"]
        assert any("in the future" in line or "does not start" in line for line in torn), torn
        stage.entry |= {"plugin": "mariadb", "options": {"socket": str(stage.server.socket)}}
        with (stage.parts[1] / "ib_logfile0").open("r+b") as file:
            file.seek(20)
            file.write(b"m")  # the server does not read it again
        assert "the checksum of the header of " in stage.backup("wrong", status=71).err
        stage.server.end()
        assert_nothing_left(rig)


@pytest.mark.soak
def test_a_statement_that_lasts_is_waited_for_by_nobody(rig: Rig) -> None:
    with staged(rig) as stage:
        stage.settings |= {"attempts": 2, "retry_pause": 1, "deadline": 8}
        stage.server.sql("INSERT INTO isam (word) VALUES ('word')")
        lasting = subprocess.Popen([*client(stage.server.socket, "shop"), "-e", LASTING])
        wait_for(lambda: stage.server.sql("SHOW PROCESSLIST").count("SLEEP"), "the long statement")
        said = stage.backup("other", status=71)
        assert said.err.count("Lock wait timeout exceeded") == 2
        assert "given up after 2 attempts" in said.err
        stage.server.sql("INSERT INTO aria (word) VALUES ('after')")
        lasting.kill()
        lasting.wait()
        is_tried_again(stage, "BACKUP STAGE START;", "BACKUP STAGE", "INSERT INTO isam (word) VALUES ('between')")
        assert_nothing_left(rig)


LASTING = "UPDATE isam SET word = 'x' WHERE SLEEP(3600)"


@pytest.mark.soak
def test_where_its_client_is_not_installed_a_library_does(rig: Rig) -> None:
    with staged(rig) as stage, hidden("mariadb"):
        with stage.server.busy():
            said = stage.backup("copy")
        assert stage.judge("copy", Position.told(said)) == []
        stage.server.end()
        assert_nothing_left(rig)


@contextmanager
def instead(path: Path) -> Iterator[tuple[Path, bytes]]:
    """Have another file of the server's in the place of one that it has open; gives what that held."""
    aside = path.with_name("aside")
    path.rename(aside)
    path.touch()
    shutil.chown(path, "mysql", "mysql")
    try:
        yield path, aside.read_bytes()
    finally:
        aside.replace(path)


def changed(whole: bytes, *places: int) -> bytes:
    """Return the same with some bytes changed."""
    found = bytearray(whole)
    for place in places:
        found[place] ^= 1
    return bytes(found)


class MariaSubject(ServerSubject):
    """A server, for the contract, whose redo log can be damaged."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, mariadb.MariaDB, "lock", "BACKUP STAGE START;")

    @contextmanager
    def damaged(self) -> Iterator[None]:
        with instead(self.server.places[1] / "ib_logfile0") as (path, whole):
            path.write_bytes(changed(whole, 20))
            yield


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Give a server in memory."""
    BASE.mkdir(mode=0o755, exist_ok=True)
    made = Server([BASE / "data", BASE / "redo", BASE / "binlog"])
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(BASE)


CHECKPOINTS = (4096, 8192)  # where they are in the redo log
CHECKPOINT = LSN.format("LAST_CHECKPOINT")


@pytest.mark.soak
def test_a_wrong_redo_log_is_told(server: Server) -> None:
    subject = MariaSubject(server)
    older, before = (server.places[1] / "ib_logfile0").read_bytes(), int(server.sql(CHECKPOINT))
    server.sql("CREATE TABLE later (n INT) ENGINE=InnoDB; DROP TABLE later")
    wait_for(lambda: int(server.sql(CHECKPOINT)) > before + 1000, "a later checkpoint")
    application = subject.make(20.0)
    try:
        application.probe()
        application.confirm()
        assert application.verify("").startswith("redo log from checkpoint ")
        with instead(server.places[1] / "ib_logfile0") as (path, whole):
            for wrong, told in (
                (changed(whole, 20), "the checksum of the header of "),
                (changed(whole, 0), "does not begin as a redo log does"),
                (changed(whole, *CHECKPOINTS), "no checkpoint that is whole"),
                (whole[:8192], "does not begin as a redo log does"),
                (older, "is older than the server's"),
            ):
                path.write_bytes(wrong)
                with pytest.raises(QuiesceError, match=told):
                    application.verify("")
            path.write_bytes(changed(whole, CHECKPOINTS[0] if _later(whole) else CHECKPOINTS[1]))
            assert application.verify("").startswith("redo log from checkpoint ")  # the earlier one was under way
            path.unlink()
            with pytest.raises(QuiesceError, match="cannot be read"):
                application.verify("")
    finally:
        application.close()


def _later(whole: bytes) -> bool:
    """Whether the second checkpoint is the later one."""
    first, second = (int.from_bytes(whole[place : place + 8], "big") for place in CHECKPOINTS)
    return second > first


class TestContract(ApplicationContract):
    """The plugin keeps the contract."""

    patience = 60.0

    @pytest.fixture
    def subject(self, server: Server) -> Subject:
        return MariaSubject(server)


@pytest.mark.soak
class TestContractByLibrary(TestContract):
    """So it does where the server's own client is not installed."""

    @pytest.fixture(autouse=True)
    def _without(self) -> Iterator[None]:
        with hidden("mariadb"):
            yield
