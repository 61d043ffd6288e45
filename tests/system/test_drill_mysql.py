"""MySQL from its data alone: a good one passes, a wrong one fails in words, and it does nothing to the world."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.plugins.drill import Restored
from borg_lvm_hooks.applications.mysql import drill, drill_mysql
from borg_lvm_hooks.applications.mysql.sql_server import Options
from tests.lab.releases import program
from tests.system.support.runs.live import installed, wait_for
from tests.system.support.runs.program import run
from tests.system.support.servers.maria import BASE
from tests.system.support.servers.mysql import MySQL
from tests.system.support.servers.sql_drill import flip, judged_in_the_open, listening

pytestmark = [pytest.mark.limit(3600), pytest.mark.soak, pytest.mark.needs("mariadb")]
PAGE = 16384
SECONDS = 1800.0
"""A server prints a damaged page for each of a hundred attempts to read it, byte by byte: minutes in a guest."""
DIRTY = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'"
ACTING = """
CREATE TABLE quiet (id INT PRIMARY KEY, word VARCHAR(200), KEY (word));
INSERT INTO quiet WITH RECURSIVE seq AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM seq WHERE n < 900)
  SELECT n, REPEAT(UUID(), 5) FROM seq;
CREATE TABLE acted (n INT AUTO_INCREMENT PRIMARY KEY, who TEXT);
CREATE EVENT acts ON SCHEDULE EVERY 1 SECOND DO INSERT INTO acted (who) VALUES ('an event');
SET PERSIST event_scheduler = ON;
CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=33991, SOURCE_USER='x', SOURCE_CONNECT_RETRY=1;
START REPLICA;
"""


class Acting:
    """A server that acts on the world, as it was when it was killed: each time anew; and what a run said of it."""

    def __init__(self) -> None:
        self.server = MySQL([BASE / "data", BASE / "redo", BASE / "binlog"])
        with listening(33991) as master:
            self.server.sql(ACTING)
            wait_for(lambda: int(self.server.sql("SELECT COUNT(*) FROM acted")) > 1, "the event")
            wait_for(lambda: master.calls, "the replica")
        self.server.sql("SET GLOBAL event_scheduler = OFF")
        time.sleep(2)  # what an event is doing ends
        name, place = self.server.sql("SHOW BINARY LOG STATUS").split("\t")[:2]
        self.remark = f"binary log {name}, position {place}, GTID {self.server.sql('SELECT @@gtid_executed')}"
        self.before = self.server.sql("SELECT COUNT(*) FROM acted")
        wait_for(lambda: self.server.sql(DIRTY).endswith("\t0"), "the end of writing pages")
        self.server.end()
        self.kept = BASE / "kept"
        self.kept.mkdir()
        for place_ in self.server.places:
            run("mv", place_, self.kept)

    def restore(self) -> None:
        """Have its data as it was."""
        for place in self.server.places:
            shutil.rmtree(place, ignore_errors=True)
            run("cp", "-a", self.kept / place.name, place)

    def judged(self, spoil: Callable[[], object] = lambda: None) -> list[dict[str, Any]]:
        """Have it restored, spoiled, and judged in the open."""
        self.restore()
        spoil()
        paths = tuple(map(str, self.server.places))
        restored = Restored("it", "9.0", paths, ("data", "redo log", "binary log"), self.remark, Options())
        return judged_in_the_open(drill_mysql.MySQLJudge(restored), BASE / "scratch", SECONDS)

    def acted(self) -> str:
        """Return how often it has acted, as the restored data says."""
        self.server.more = ["--event-scheduler=OFF", "--skip-replica-start", "--persisted-globals-load=OFF"]
        self.server.start()
        try:
            return self.server.sql("SELECT COUNT(*) FROM acted")
        finally:
            self.server.end()


@pytest.fixture(scope="module")
def acting() -> Iterator[Acting]:
    """Give such a server; its programs must be reachable for the user of databases."""
    for above in Path(program("sid", "mysqld")).parents:
        above.chmod(above.stat().st_mode | 0o111)
    with installed(program("sid", "mysqld")), installed(program("sid", "mysql")):
        try:
            yield Acting()
        finally:
            shutil.rmtree(BASE)


def wrong(facts: list[dict[str, Any]]) -> list[str]:
    return [fact["wrong"] for fact in facts if "wrong" in fact]


def test_a_good_one_passes_and_does_nothing_to_the_world(acting: Acting) -> None:
    with listening(33991) as master:
        facts = acting.judged()
    assert wrong(facts) == []
    right = [fact["right"] for fact in facts if "right" in fact]
    assert any(line.startswith("CHECK TABLE … EXTENDED of ") for line in right)
    assert any(line.startswith("the binary log ends where the run says") for line in right)
    assert master.calls == []
    assert acting.acted() == acting.before


def test_without_the_switches_it_acts(acting: Acting) -> None:
    """The control: as the same server would start from the same data by itself."""
    acting.restore()
    acting.server.more = []
    with listening(33991) as master:
        acting.server.start()
        try:
            wait_for(lambda: master.calls, "calls of the replica")
            wait_for(lambda: acting.server.sql("SELECT COUNT(*) FROM acted") > acting.before, "the event")
        finally:
            acting.server.end()


def test_without_one_of_them_it_acts(acting: Acting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "SWITCHED_OFF", tuple(word for word in drill.SWITCHED_OFF if "slave" not in word))
    with listening(33991) as master:
        acting.judged()
    assert master.calls


def flipped() -> None:
    """Change a byte of each of some pages."""
    for number in range(4, 14):
        flip(BASE / "data/shop/quiet.ibd", number * PAGE + 9000)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (flipped, "quiet"),
        (lambda: os.unlink(BASE / "data/shop/quiet.ibd"), "quiet"),
        (lambda: os.unlink(BASE / "data/ibdata1"), "the archive lacks ibdata1"),
        (lambda: shutil.rmtree(BASE / "redo/#innodb_redo"), "the archive lacks the redo log"),
        (lambda: os.unlink(BASE / "binlog/log.000001"), "lacks the binary log log.000001"),
    ],
)
def test_a_wrong_one_fails_in_words(acting: Acting, spoil: Callable[[], object], words: str) -> None:
    found = wrong(acting.judged(spoil))
    assert any(words in text for text in found), found
