"""A replica of MariaDB's is quiesced: its copy goes on replicating where it was, and so does the replica itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.rig import Rig
from tests.system.support.runs import certificates
from tests.system.support.runs.live import assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import Said, borg_lvm
from tests.system.support.servers.maria import BASE, MARIADB, Position, Server, judged, query

pytestmark = [pytest.mark.limit(3600), pytest.mark.soak, pytest.mark.needs("mariadb")]
PORT = 33061
PLACES = ("data", "redo", "binlog")
USER = """
CREATE USER replica@'127.0.0.1' IDENTIFIED BY 'replica'; GRANT REPLICATION SLAVE ON *.* TO replica@'127.0.0.1';
CREATE TABLE shop.numbers (n INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(200)) ENGINE=InnoDB;
"""
# Tables without transactions are left out: what a replica does to them, and how far it says it has come, are written
# one after the other.
TRANSFER = """SET @from = 1 + FLOOR(RAND() * 100), @to = 1 + FLOOR(RAND() * 100);
BEGIN;
UPDATE shop.accounts SET amount = amount - 7 WHERE id = @from;
UPDATE books.accounts SET amount = amount + 7 WHERE id = @to;
INSERT INTO shop.numbers (word) VALUES (UUID());
COMMIT;
"""
SOURCE = f"""
CHANGE MASTER TO master_host='127.0.0.1', master_port={PORT}, master_user='replica', master_password='replica',
  master_connect_retry=1, master_use_gtid=slave_pos;
START SLAVE;
"""
SUMS = f"CHECKSUM TABLE {MARIADB.all}, shop.numbers EXTENDED"
REACHED = "SELECT @@gtid_slave_pos"


class Stage:
    """A server in memory, its replica on two volumes, and the configuration for that."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        rig.directory.chmod(0o755)
        rig.volume("data", fs="ext4", mib=256, at=rig.path("data"))
        rig.volume("logs", fs="xfs", mib=320, at=rig.path("logs"))
        network = ["--skip-networking=0", "--bind-address=127.0.0.1", f"--port={PORT}"]
        self.primary = Server([BASE / f"primary-{place}" for place in PLACES], name="primary", more=network)
        self.parts = [rig.path("data") / "db", rig.path("logs") / "redo", rig.path("logs") / "binlog"]
        self.replica = Server(self.parts, "", more=["--server-id=2", "--log-slave-updates", "--relay-log=relay"])
        self.primary.sql(USER)
        self.replica.sql(SOURCE, database="")
        self.wait_until_same(self.replica.socket)

    def config(self) -> Path:
        """Write the configuration."""
        path = Path(f"{BASE}.yaml")
        entry = {"plugin": "mariadb", "options": {"socket": str(self.replica.socket)}}
        settings = {"deadline": 40, "attempts": 1, "snapshot": {"size": "50%ORIGIN"}}
        path.write_text(yaml.safe_dump({**settings, "applications": [entry]}))
        return path

    def backup(self, *command: str | Path) -> Said:
        """Have borg-lvm run a command that reads the replica's files."""
        paths = [word for part in self.parts for word in ("--path", part)]
        return borg_lvm("run", "--config", self.config(), *paths, "--", *command)

    def wait_until_same(self, socket: Path) -> None:
        """Wait until a replica has come as far as the primary, and see that both hold the same."""
        (goal,) = query(self.primary.socket, "SELECT @@gtid_binlog_pos", "").out.split()
        wait_for(lambda: query(socket, REACHED, "").out.strip() == goal, f"the replica to come to {goal}")
        sums = [query(place, SUMS, "").out for place in (self.primary.socket, socket)]
        assert sums[0] == sums[1]

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Have a client write to the primary for the length of the block, and the replica follow it."""
        with self.primary.told_again_and_again(TRANSFER):
            self.wait_for_more()
            yield

    def wait_for_more(self) -> None:
        """Wait until the replica has replicated some more."""
        before = self.reached()
        wait_for(lambda: self.reached() > before + 20, "the replica to go on")

    def reached(self) -> int:
        """Return how many transactions the replica has come to."""
        return int(self.replica.sql(REACHED).split("-")[2])

    def copied(self, to: Path, said: Said) -> list[Path]:
        """Return the parts of a copy; it is the owner's."""
        assert "mariadb: quiesced (lock) for " in said.err
        return [to / part.name for part in self.parts]


@contextmanager
def staged(rig: Rig) -> Iterator[Stage]:
    """Give a stage."""
    with tidy():
        servers: list[Server] = []
        try:
            stage = Stage(rig)
            servers += [stage.primary, stage.replica]
            yield stage
        finally:
            for server in servers:
                server.end()
            shutil.rmtree(BASE)


def test_the_copy_of_a_replica_goes_on_where_it_was(rig: Rig) -> None:
    with staged(rig) as stage:
        copy = rig.path("copy")
        copy.mkdir(mode=0o755)
        with stage.busy():
            said = stage.backup("cp", "-a", *stage.parts, copy)
            stage.wait_for_more()  # and so does the replica itself
        parts = stage.copied(copy, said)
        found = re.search(r"; binary log \S+, position \d+, GTID (\S+), replicated up to GTID ([0-9-]+)", said.err)
        assert found, said
        assert found[1] == found[2]  # it writes what it replicates into its own binary log, too
        told = found[2]
        (application,) = certificates.read()["applications"]
        assert application["remark"].endswith(f"replicated up to GTID {told}")
        stage.wait_until_same(stage.replica.socket)
        assert judged(stage.replica, parts, Position.told(said), ["--skip-slave-start"]) == []
        shutil.rmtree(copy)
        _assert_goes_on(stage, told)
        stage.replica.end()
        stage.replica.more.append("--skip-log-bin")
        stage.replica.start()
        wait_for(lambda: stage.replica.sql(REACHED), "the replica")
        said = stage.backup("true")
        assert re.search(r" s; replicated up to GTID \S+; verified in the snapshot: redo log ", said.err), said
        stage.replica.end()
        assert_nothing_left(rig)


def _assert_goes_on(stage: Stage, told: str) -> None:
    """See that a new copy knows where it is, and replicates from there; and that from a wrong place it would not do."""
    copy = stage.rig.path("copy")
    copy.mkdir(mode=0o755)
    with stage.busy():
        said = stage.backup("cp", "-a", *stage.parts, copy)
        stage.wait_for_more()
    found = re.search(r"replicated up to GTID ([0-9-]+)", said.err)
    assert found
    assert found[1] != told
    late = re.sub(r"\d+$", lambda number: str(int(number[0]) + 3), found[1])
    for place in (found[1], late):
        other = stage.rig.path("other")
        shutil.copytree(copy, other, copy_function=shutil.copy)
        for part in (other, *other.rglob("*")):
            shutil.chown(part, "mysql", "mysql")
        parts = [other / part.name for part in stage.parts]
        with stage.replica.copy(parts, ["--server-id=3", "--skip-slave-start"]) as socket:
            assert query(socket, REACHED, "").out.strip() == found[1]
            if place == late:
                query(socket, f"SET GLOBAL gtid_slave_pos = '{late}'", "")
            query(socket, "START SLAVE", "")
            if place != late:
                stage.wait_until_same(socket)
            else:
                with pytest.raises(AssertionError):
                    stage.wait_until_same(socket)
        shutil.rmtree(other)
