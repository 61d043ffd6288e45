"""MySQL over three volumes, hot: the copy is whole; a statement that lasts holds up nobody; the contract is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest

from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.applications.mysql import mysql
from tests.lab.releases import program
from tests.rig import Rig
from tests.system.support.runs.live import Programs, assert_nothing_left, hidden, installed, wait_for
from tests.system.support.runs.program import borg_lvm
from tests.system.support.servers.maria import BASE, Position, client
from tests.system.support.servers.mysql import MySQL
from tests.system.support.servers.sql_stage import (
    ServerSubject,
    Stage,
    holding,
    is_tried_again,
    staged,
    without_what_is_needed,
)

pytestmark = [
    pytest.mark.limit(7200),
    pytest.mark.soak,
    pytest.mark.needs("mariadb"),
]  # seconds; a fraction of it on an idle machine
JUDGED = int(os.environ.get("BORG_LVM_JUDGED", "1"))
PAUSE = 2.0  # seconds that are put before each snapshot of the control
DATA = 384  # MiB
OWN = pytest.mark.parametrize("its", ["mysql"], indirect=True)


@pytest.fixture(params=["mysql", "mariadb", "library"], autouse=True, scope="module")
def its(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have everything done by MySQL's client; by MariaDB's, which has the same name on Debian; and by a library."""
    clients: dict[str, AbstractContextManager[None]] = {
        "mysql": installed(program("sid", "mysql")),
        "mariadb": nullcontext(),
        "library": hidden("mysql"),
    }
    with clients[request.param]:
        yield request.param


@pytest.mark.parametrize("its", ["mysql", "library"], indirect=True)
def test_a_server_over_three_volumes_comes_back_whole_and_at_a_known_position(rig: Rig) -> None:
    with staged(rig, "mysql", MySQL, DATA) as stage:
        for number in range(JUDGED):
            with stage.server.busy():
                said = stage.backup(f"copy{number}")
            assert "mysql: quiesced (lock) for " in said.err
            position = Position.told(said)
            assert stage.judge(f"copy{number}", position) == []
            if number:
                stage.archives.delete(f"copy{number}")  # the test's disk does not hold ten
        # The same from a position that is three transactions too late: the judge must see that something is missing.
        wrong = stage.judge("copy0", stage.server.later(position, 3))
        assert any(line.startswith("live shop.isam") or "the replay failed" in line for line in wrong), wrong
        stage.server.end()
        assert_nothing_left(rig)


@OWN
def test_tables_of_innodb_alone_let_commits_go_on_and_make_no_table_in_the_window(rig: Rig) -> None:
    with staged(rig, "mysql", partial(MySQL, plain=False), DATA) as stage:
        with stage.server.busy():
            said = stage.backup("copy")
        assert "mysql: quiesced (lock) for " in said.err
        assert "binary log" not in said.err
        assert stage.judge("copy") == []
        # Of a table without transactions that comes meanwhile nothing is known: it was not locked.
        stage.entry["level"] = "read-lock"
        with stage.server.busy():
            said = stage.backup("known")
        assert stage.judge("known", Position.told(said)) == []
        stage.server.end()
        assert_nothing_left(rig)


@OWN
def test_the_judge_sees_what_was_not_of_one_instant_or_not_locked(rig: Rig) -> None:
    programs = Programs(rig.path("programs"))
    programs.delay("lvm", PAUSE)
    with staged(rig, "mysql", MySQL, DATA) as stage:
        found = without_what_is_needed(stage, programs)
        # Tables without transactions were being written.
        assert any("shop.isam" in line for line in found["unlocked"])
        assert found["live"]
        torn = found["sequential"]
        assert any("in the future" in line or "does not start" in line or "ERROR" in line for line in torn), torn
        stage.server.end()
        assert_nothing_left(rig)


@OWN
def test_a_statement_that_lasts_is_waited_for_by_nobody(rig: Rig) -> None:
    with staged(rig, "mysql", MySQL, DATA) as stage:
        stage.settings |= {"attempts": 2, "retry_pause": 1, "deadline": 8}
        with lasting(stage):
            said = stage.backup("other", status=71)
            assert said.err.count("all would have to wait for a statement of ") == 2
            assert "SELECT SLEEP(3600) FROM isam" in said.err
            assert "given up after 2 attempts" in said.err
            stage.server.sql("INSERT INTO isam (word) VALUES ('after')")
        with holding(stage.server, "LOCK INSTANCE FOR BACKUP;"):
            stage.backup("beside")  # two may hold it
        other = "UPDATE shop.accounts SET amount = amount + 0"
        is_tried_again(stage, "LOCK TABLES shop.isam WRITE;", "FLUSH TABLES WITH", other)
        assert_nothing_left(rig)


@contextmanager
def lasting(stage: Stage) -> Iterator[None]:
    """Have a statement that reads a table without transactions last."""
    stage.server.sql("INSERT INTO isam (word) VALUES ('word')")
    argv = [*client(stage.server.socket, "shop", stage.server.brand), "-e", "SELECT SLEEP(3600) FROM isam"]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        rows = wait_for(
            lambda: [row for row in stage.server.sql("SHOW PROCESSLIST").splitlines() if "SLEEP" in row], "it"
        )
        try:
            yield
        finally:
            stage.server.sql(f"KILL {rows[0].split()[0]}")
            process.wait()


def test_who_may_not_is_told_what_is_missing(server: MySQL, tmp_path: Path) -> None:
    for statement in (
        "CREATE USER nobody@localhost IDENTIFIED BY 'right'; GRANT PROCESS ON *.* TO nobody@localhost",
        "CREATE USER some@localhost IDENTIFIED BY 'right'; GRANT PROCESS, BACKUP_ADMIN ON *.* TO some@localhost",
        "CREATE ROLE saves; GRANT PROCESS, BACKUP_ADMIN, RELOAD, REPLICATION CLIENT ON *.* TO saves",
        "CREATE USER enough@localhost IDENTIFIED BY 'right' DEFAULT ROLE saves; GRANT saves TO enough@localhost",
    ):
        server.sql(statement, database="")
    expected = {
        "nobody": "no privilege BACKUP_ADMIN",
        "some": "no privilege RELOAD",
        "wrong": "Access denied",
        "enough": "",
    }
    for user, words in expected.items():
        path = Path("/root/borg-lvm-mysql.cnf")
        path.write_text(f"[client]\nuser={user}\npassword=right\n")
        path.chmod(0o600)
        config = Path("/root/borg-lvm-mysql.yaml")
        options = f"{{socket: {server.socket}, defaults_file: {path}}}"
        config.write_text(f"applications: [{{plugin: mysql, options: {options}}}]\n")
        said = borg_lvm("hooks", "mysql", "--config", config, status=None)
        assert words in said.out + said.err, said
        for made in (path, config):
            made.unlink()


def test_it_is_discovered(server: MySQL) -> None:
    said = borg_lvm("discover", status=None)
    assert f"MySQL listens at {server.socket}" in said.out, said


@pytest.fixture(scope="module")
def server(its: str) -> Iterator[MySQL]:
    """Give a server in memory."""
    BASE.mkdir(mode=0o755, exist_ok=True)
    made = MySQL([BASE / "data", BASE / "redo", BASE / "binlog"])
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(BASE)


class TestContract(ApplicationContract):
    """The plugin keeps the contract."""

    patience = 60.0

    @pytest.fixture
    def subject(self, server: MySQL) -> Subject:
        return ServerSubject(server, mysql.MySQL, "read-lock", "LOCK TABLES shop.isam WRITE;")
