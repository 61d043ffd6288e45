"""MariaDB over three volumes, hot, with all of its engines: the copy is whole; and the plugin keeps the contract."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from borg_lvm.applications import Application, Wish
from borg_lvm.contract import ApplicationContract, Subject
from hooks import mariadb
from tests.rig import Rig
from tests.system.live import assert_nothing_left, away, tidy, wait_for
from tests.system.program import Said, borg_lvm, run

pytestmark = pytest.mark.limit(1500)
RUNS = int(os.environ.get("BORG_LVM_RUNS", "2"))
BASE = Path("/run/borg-lvm-test-mariadb")
SMALL = ["--innodb-buffer-pool-size=24M", "--innodb-log-file-size=8M", "--max-connections=20"]
SMALL += ["--loose-innodb-buffer-pool-size-max=64M"]  # newer ones reserve addresses, more than a small machine has
TABLES = """
CREATE DATABASE shop; USE shop;
CREATE TABLE accounts (id INT PRIMARY KEY, amount INT) ENGINE=InnoDB;
INSERT INTO accounts SELECT seq, 1000 FROM seq_1_to_100;
CREATE TABLE isam (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(200), KEY (word)) ENGINE=MyISAM;
CREATE TABLE aria (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(200), KEY (word)) ENGINE=Aria TRANSACTIONAL=0;
"""
TRANSFER = """SET @from = 1 + FLOOR(RAND() * 50), @to = 51 + FLOOR(RAND() * 50);
BEGIN;
UPDATE accounts SET amount = amount - 7 WHERE id = @from;
UPDATE accounts SET amount = amount + 7 WHERE id = @to;
COMMIT;
INSERT INTO isam (word) VALUES (REPEAT(UUID(), 5));
INSERT INTO aria (word) VALUES (REPEAT(UUID(), 5));
"""
CHECK = "CHECK TABLE accounts, isam, aria EXTENDED"


class Server:
    """A real server: its data, its redo log and its binary log may lie anywhere."""

    def __init__(self, data: Path, redo: Path, binlog: Path) -> None:
        BASE.mkdir(mode=0o755, exist_ok=True)
        self.places = (data, redo, binlog)
        self.socket = BASE / "live.sock"
        mysql = pwd.getpwnam("mysql")
        for path in (BASE, *self.places):
            path.mkdir(exist_ok=True)
            os.chown(path, mysql.pw_uid, mysql.pw_gid)
        run("mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--skip-test-db", *SMALL)
        run("mv", data / "ib_logfile0", redo)
        self.start()
        self.sql(TABLES, database="")

    def argv(self, socket: Path) -> list[str]:
        """Return the command line of the server."""
        data, redo, binlog = self.places
        own = [f"--datadir={data}", f"--innodb-log-group-home-dir={redo}", f"--log-bin={binlog}/log", "--server-id=1"]
        own += [f"--socket={socket}", f"--pid-file={socket}.pid", f"--log-error={socket}.log", "--skip-networking"]
        return ["mariadbd", "--no-defaults", "--user=mysql", *own, *SMALL]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(self.argv(self.socket), stderr=subprocess.DEVNULL)
        wait_for(self.answers, "the server")

    def answers(self) -> bool:
        """Whether it answers."""
        return query(self.socket, "SELECT 1", database="", status=None).status == 0

    def sql(self, statement: str, database: str = "shop", status: int | None = 0) -> str:
        """Have statements done."""
        return query(self.socket, statement, database, status).out.strip()

    def end(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Have a client write for the length of the block."""
        writer = subprocess.Popen(client(self.socket, "shop"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        feeder = subprocess.Popen(["yes", TRANSFER], stdout=writer.stdin)
        try:
            wait_for(lambda: int(self.sql("SELECT COUNT(*) FROM isam")) > 20, "the first writes")
            yield
        finally:
            for process in (feeder, writer):
                process.kill()
                process.wait()


def client(socket: Path, database: str) -> list[str]:
    """Return the command line of a client."""
    chosen = [database] if database else []
    return ["mariadb", "--no-defaults", "--batch", "--skip-column-names", f"--socket={socket}", *chosen]


def query(socket: Path, statement: str, database: str, status: int | None = 0) -> Said:
    """Have statements done."""
    return run(*client(socket, database), status=status, stdin=statement)


def judged(server: Server, copies: list[Path]) -> list[str]:
    """Start a copy over the original paths, in a mount namespace of its own, and return what is wrong with it."""
    socket = BASE / "copy.sock"
    binds = [f"mount --bind {copy} {place}" for copy, place in zip(copies, server.places, strict=True)]
    shell = ["unshare", "--mount", "sh", "-ec", "\n".join([*binds, 'exec "$@"']), "sh"]
    process = subprocess.Popen([*shell, *server.argv(socket)], stderr=subprocess.DEVNULL)
    log = Path(f"{socket}.log")
    try:
        wait_for(lambda: process.poll() is not None or query(socket, "SELECT 1", "", None).status == 0, "the copy", 300)
        if process.returncode is not None:
            return ["it does not start", log.read_text()[-2000:]]
        found = [line for line in query(socket, CHECK, "shop").out.splitlines() if not line.endswith("\tOK")]
        if query(socket, "SELECT SUM(amount) FROM accounts", "shop").out.strip() != "100000":
            found.append("the sum of all accounts is wrong")
        return found + [line for line in log.read_text().splitlines() if "[ERROR]" in line or "in the future" in line]
    finally:
        process.kill()
        process.wait()
        for path in BASE.glob("copy.*"):
            path.unlink()


class Stage:
    """A server over three volumes."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        rig.directory.chmod(0o755)
        group = rig.group(disks=2)
        for name, mib in (("data", 256), ("redo", 96), ("binlog", 96)):
            rig.volume(name, fs="ext4", mib=mib, at=rig.path(name), group=group)
        self.parts = [rig.path(name) / "db" for name in ("data", "redo", "binlog")]
        self.server = Server(*self.parts)
        self.entry: dict[str, Any] = {"plugin": "mariadb", "options": {"socket": str(self.server.socket)}}

    def backup(self, name: str, status: int = 0) -> Said:
        """Copy what a backup would read; the copy goes to a folder of that name."""
        path = Path(f"{BASE}.yaml")  # not in a folder that belongs to somebody else
        settings = {"deadline": 40, "snapshot": {"size": "50%ORIGIN"}, "applications": [self.entry]}
        path.write_text(yaml.safe_dump(settings))
        target = self.rig.path(name)
        target.mkdir(exist_ok=True)
        words = [word for part in self.parts for word in ("--path", str(part))]
        copy = " && ".join(f"cp -a {part} {target}/{part.parent.name}" for part in self.parts)
        return borg_lvm("run", "--config", path, *words, "--", "sh", "-c", copy, status=status)

    def judge(self, name: str) -> list[str]:
        """Judge a copy."""
        return judged(self.server, [self.rig.path(name) / part.parent.name for part in self.parts])


@contextmanager
def staged(rig: Rig) -> Iterator[Stage]:
    """Give a stage."""
    with tidy():
        stage = Stage(rig)
        try:
            yield stage
        finally:
            stage.server.end()
            shutil.rmtree(BASE)


def test_a_server_over_three_volumes_comes_back_whole(rig: Rig) -> None:
    with staged(rig) as stage:
        with stage.server.busy():
            said = [stage.backup(f"copy{turn}") for turn in range(RUNS)]
            stage.entry["level"] = "none"
            stage.backup("control")
        for turn in range(RUNS):
            assert "mariadb: quiesced (lock) for " in said[turn].err
            assert "binary log log.0000" in said[turn].err
            assert stage.judge(f"copy{turn}") == []
        # Without the lock, tables without transactions were being written: the judge must see that.
        assert any("shop.isam" in line or "shop.aria" in line for line in stage.judge("control"))
        stage.entry["level"] = "lock"
        with holding(stage.server):
            said.append(stage.backup("other", status=71))
        assert "Lock wait timeout exceeded" in said[-1].err
        stage.server.sql("INSERT INTO isam (word) VALUES ('after')")
        stage.server.end()
        assert "no server listens at " in stage.backup("other", status=71).err
        assert_nothing_left(rig)


@contextmanager
def holding(server: Server) -> Iterator[None]:
    """Have another session hold what a backup needs."""
    argv = [*client(server.socket, ""), "--unbuffered"]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin
    assert holder.stdout
    holder.stdin.write(b"BACKUP STAGE START;\nSELECT 'held';\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == b"held\n"
    try:
        yield
    finally:
        holder.kill()
        with holder:
            pass


class ServerSubject(Subject):
    """A server, for the contract."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def make(self, deadline: float) -> Application:
        return mariadb.MariaDB(Wish("it", "lock", deadline, mariadb.Options(socket=str(self.server.socket))))

    def write(self, seconds: float) -> bool:
        argv = [*client(self.server.socket, "shop"), "-e", "INSERT INTO isam (word) VALUES ('word')"]
        with subprocess.Popen(argv) as process:
            try:
                return process.wait(seconds + 1.0) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                return False

    def keeps(self) -> list[str]:
        return [str(place) for place in self.server.places]

    def gone(self) -> AbstractContextManager[None]:
        return away(self.server.end, self.server.start)

    @contextmanager
    def busy(self) -> Iterator[None]:
        with holding(self.server):
            yield

    def lose(self) -> bool:
        ids = "SELECT id FROM information_schema.processlist WHERE command = 'Sleep' AND id <> CONNECTION_ID()"
        for number in self.server.sql(ids).split():
            self.server.sql(f"KILL {number}")
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Give a server in memory."""
    BASE.mkdir(mode=0o755, exist_ok=True)
    made = Server(BASE / "data", BASE / "redo", BASE / "binlog")
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(BASE)


class TestContract(ApplicationContract):
    """The plugin keeps the contract."""

    patience = 60.0

    @pytest.fixture
    def subject(self, server: Server) -> Subject:
        return ServerSubject(server)
