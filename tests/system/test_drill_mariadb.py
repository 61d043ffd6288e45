"""MariaDB from its archive alone: a good one passes, a wrong one fails in words; nothing is done to the world."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.plugins.drill import Restored
from borg_lvm_hooks.applications.mysql import drill
from borg_lvm_hooks.applications.mysql.drill_mariadb import MariaJudge
from borg_lvm_hooks.applications.mysql.sql_server import Options
from borg_lvm_hooks.applications.mysql.verify_mariadb import LSN
from tests.rig import Rig
from tests.system.support.backups.archives import Tar
from tests.system.support.runs import certificates
from tests.system.support.runs.live import assert_nothing_left, wait_for
from tests.system.support.runs.program import Said, borg_lvm, run
from tests.system.support.servers.maria import BASE, Server
from tests.system.support.servers.sql_drill import flip, judged_in_the_open, listening, spoiled
from tests.system.support.servers.sql_stage import Stage, staged

pytestmark = [pytest.mark.limit(3600), pytest.mark.needs("mariadb")]  # seconds; a fraction of it on an idle machine
QUIET = """
CREATE TABLE quiet (id INT PRIMARY KEY, word VARCHAR(200), KEY (word)) ENGINE=InnoDB;
INSERT INTO quiet SELECT seq, REPEAT(UUID(), 5) FROM seq_1_to_2000;
CREATE TABLE list (id INT NOT NULL, word VARCHAR(200) NOT NULL) ENGINE=CSV;
INSERT INTO list SELECT seq, UUID() FROM seq_1_to_50;
CREATE TABLE `we``ird ta.ble` (id INT) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 3;
CREATE TABLE text (id INT, word TEXT, FULLTEXT (word)) ENGINE=InnoDB;
"""
PAGE = 16384


def drilled(stage: Stage, *named: str, status: int = 0) -> tuple[Said, dict[str, Any]]:
    """Drill the newest archive, or one that is named; return what was said, and the certificate's only application."""
    scratch = stage.rig.path("scratch")
    scratch.mkdir(exist_ok=True)
    argv: list[str | Path] = [
        "drill",
        "--config",
        f"{BASE}.yaml",
        "--scratch",
        scratch,
        *named,
        "--",
        *stage.create("good"),
    ]
    said = borg_lvm(*argv, env=stage.archives.env, status=status)
    print(said.err)
    assert list(scratch.iterdir()) == []
    (one,) = certificates.of_last_drill()["applications"]
    return said, one


def test_a_good_archive_passes_and_wrong_ones_fail_in_words(rig: Rig) -> None:
    with staged(rig, archives=Tar) as stage:
        stage.server.sql(QUIET)
        older = rig.path("older-redo")
        shutil.copytree(stage.parts[1], older)
        with stage.server.busy():
            written(stage.server)
            stage.backup("good")
        said, one = drilled(stage)
        assert one["verdict"] == "good"
        assert [part["name"] for part in one["phases"]] == ["restore", "start", "check", "stop"]
        assert one["ready_seconds"] > 0
        assert "the binary log ends where the run says: log.0" in said.err
        assert "CHECK TABLE … EXTENDED of " in said.err
        uptime = int(stage.server.sql("SHOW GLOBAL STATUS LIKE 'Uptime'").split()[1])

        def redo(parts: Mapping[str, Path]) -> None:
            shutil.copyfile(older / "ib_logfile0", parts["redo"] / "ib_logfile0")

        def page(parts: Mapping[str, Path]) -> None:
            for number in range(4, 12):
                flip(parts["data"] / "shop" / "quiet.ibd", number * PAGE + 9000)

        for name, spoil, words in (("redo", redo, "log"), ("page", page, "table shop.quiet: ")):
            spoiled(stage, "good", name, spoil)
            said, one = drilled(stage, "--archive", stage.archives.known_as(name), status=74)
            assert one["verdict"] == "bad", name
            assert any(words in text for text in one["wrong"]), (name, one["wrong"])
        assert int(stage.server.sql("SHOW GLOBAL STATUS LIKE 'Uptime'").split()[1]) >= uptime
        stage.server.end()
        assert_nothing_left(rig)


ACTING = """
CREATE TABLE acted (n INT AUTO_INCREMENT PRIMARY KEY, who TEXT);
CREATE EVENT acts ON SCHEDULE EVERY 1 SECOND DO INSERT INTO acted (who) VALUES ('an event');
CREATE TABLE remote (id INT);
CREATE USER far@'127.0.0.1' IDENTIFIED BY 'far'; GRANT ALL ON *.* TO far@'127.0.0.1';
CREATE USER far@localhost IDENTIFIED BY 'far'; GRANT ALL ON *.* TO far@localhost;
INSTALL SONAME 'ha_federatedx';
CREATE TABLE near (id INT) ENGINE=FEDERATED CONNECTION='mysql://far:far@127.0.0.1:33992/shop/remote';
CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=33991, MASTER_USER='x', MASTER_CONNECT_RETRY=1;
START SLAVE;
"""
INIT = "INSERT INTO shop.acted (who) VALUES ('init_file')"
OPTIONS = Path("/etc/mysql/conf.d/zz-borg-lvm-test.cnf")
REACHED = ["--skip-networking=0", "--bind-address=127.0.0.1", "--port=33992", "--event-scheduler=ON"]
STILL = ["--event-scheduler=OFF", "--skip-slave-start"]


def written(server: Server) -> None:
    """Wait until a recovery would write nothing of what there is now: until then it mends what is missing."""
    current = int(server.sql(LSN.format("CURRENT")))
    wait_for(lambda: int(server.sql(LSN.format("LAST_CHECKPOINT"))) > current, "a later checkpoint", 120)


class Acting:
    """A server that acts on the world, as it was when it was killed: each time anew."""

    def __init__(self) -> None:
        self.server = Server([BASE / "data", BASE / "redo", BASE / "binlog"], more=REACHED)
        with listening(33991) as master:
            self.server.sql(ACTING)
            wait_for(lambda: int(self.server.sql("SELECT COUNT(*) FROM acted")) > 1, "the event")
            wait_for(lambda: master.calls, "the replica")
        written(self.server)
        self.server.end()
        self.kept = BASE / "kept"
        self.kept.mkdir()
        for place in self.server.places:
            run("mv", place, self.kept)
        self.restore()
        self.before = self.acted()

    def restore(self) -> None:
        """Have its data as it was."""
        for place in self.server.places:
            shutil.rmtree(place, ignore_errors=True)
            run("cp", "-a", self.kept / place.name, place)

    def acted(self) -> list[str]:
        """Return who has acted so far."""
        self.server.more = STILL
        self.server.start()
        try:
            return self.server.sql("SELECT who FROM acted ORDER BY n").splitlines()
        finally:
            self.server.end()

    def judged(self, *missing: str) -> list[dict[str, Any]]:
        """Have it restored without some files, and judged in the open."""
        self.restore()
        for name in missing:
            (BASE / name).unlink()
        paths = tuple(map(str, self.server.places))
        restored = Restored("it", "10.11", paths, ("data", "redo log", "binary log"), "", Options())
        return judged_in_the_open(MariaJudge(restored), BASE / "scratch")


@pytest.fixture(scope="module")
def acting() -> Iterator[Acting]:
    """Give such a server, and an option file of the machine's with an `init_file`."""
    BASE.mkdir(mode=0o755, exist_ok=True)
    init = BASE / "init.sql"
    init.write_text(f"{INIT};\n")
    OPTIONS.write_text(f"[mysqld]\ninit_file={init}\nevent_scheduler=ON\n")
    made = Acting()
    try:
        yield made
    finally:
        OPTIONS.unlink()
        shutil.rmtree(BASE)


def wrong(facts: list[dict[str, Any]]) -> list[str]:
    return [fact["wrong"] for fact in facts if "wrong" in fact]


def test_a_restored_server_does_nothing_to_the_world(acting: Acting) -> None:
    with listening(33991) as master, listening(33992) as far:
        facts = acting.judged()
    assert wrong(facts) == []
    assert any("not checked" in fact.get("right", "") and "shop.near (FEDERATED)" in fact["right"] for fact in facts)
    assert master.calls == far.calls == []
    assert acting.acted() == acting.before


def test_without_the_switches_it_acts(acting: Acting) -> None:
    """The control: as the same server would start from the same data by itself."""
    acting.restore()
    acting.server.more = ["--event-scheduler=ON"]
    argv = [word for word in acting.server.argv(acting.server.socket) if word != "--no-defaults"]
    with listening(33991) as master, listening(33992) as far:
        acting.server.argv = lambda socket: argv  # type: ignore[method-assign]
        acting.server.start()
        try:
            acting.server.sql("SELECT * FROM near", status=None)
            wait_for(lambda: master.calls and far.calls, "calls of the replica, and of an engine")
            who = f"SELECT COUNT(DISTINCT who) FROM acted WHERE n > {len(acting.before)}"
            wait_for(lambda: acting.server.sql(who) == "2", "the event and the init_file")
        finally:
            acting.server.end()
            del acting.server.argv
    assert "init_file" in acting.acted()


@pytest.mark.parametrize("missing", ["--skip-slave-start"])
def test_without_one_of_them_it_acts(acting: Acting, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "SWITCHED_OFF", tuple(word for word in drill.SWITCHED_OFF if word != missing))
    with listening(33991) as master:
        acting.judged()
    assert master.calls


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("data/ibdata1", "the archive lacks ibdata1, the system tablespace"),
        ("redo/ib_logfile0", "the archive lacks the redo log"),
        ("data/shop/accounts.ibd", "table shop.accounts: "),
        ("data/shop/accounts.frm", "table shop.accounts: InnoDB has it, and its file shop/accounts.frm is missing"),
        ("data/shop/isam.MYD", "table shop.isam: "),
        ("binlog/log.000001", "log.000001"),
    ],
)
def test_a_file_that_is_missing_is_named(acting: Acting, missing: str, words: str) -> None:
    found = wrong(acting.judged(missing))
    assert any(words in text for text in found), found
