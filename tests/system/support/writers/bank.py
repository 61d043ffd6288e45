"""A bank that works without pause: pgbench's accounts in a PostgreSQL server, and the judge of a copy of the server.

At every instant the four sums of its books are equal, and every number is there that a client was told to be there.
That is not enough: a copy whose log of changes is older than its tables starts, and its sums agree, for few of the
pages that are too new are ever looked at. pg_amcheck looks at all of them. But pages must have been written in the gap
between log and tables to be too new: `HOT` has the server keep hardly any in memory. (With a roomy cache such a copy
is often found to be clean: a blind judge.)
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.support.runs.live import wait_for
from tests.system.support.servers.postgres import Cluster, ServerError, owned

HOT = {
    "shared_buffers": "1MB",
    "bgwriter_delay": "10ms",
    "bgwriter_lru_maxpages": "1000",
    "bgwriter_lru_multiplier": "10",
    "bgwriter_flush_after": "64kB",
    "backend_flush_after": "64kB",
    "checkpoint_timeout": "30s",
    "max_wal_size": "24MB",
    "min_wal_size": "2MB",
}
"""Settings of a server that writes its pages at once, and has a checkpoint every few seconds."""
COPY = {"shared_buffers": "64MB", "autovacuum": "off", "fsync": "off"}
"""Settings of the copy: nothing of it is to outlive the test."""
BOOKS = """
select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches),
       (select sum(tbalance) from pgbench_tellers), (select sum(delta) from pgbench_history),
       (select count(*) from counter), (select max(n) from counter)
"""
SCALE, CLIENTS = 3, 6
PACE = 0.01  # seconds between two numbers: the counter is not to take the processor from the others
# Rows that say nothing: each is a page by page look at an index and its table.
INDEXES = """
CREATE EXTENSION IF NOT EXISTS amcheck;
SELECT bt_index_parent_check(c.oid, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p';
"""


@dataclass(frozen=True)
class Verdict:
    """What the judge found: why the server did not start; its books, or what went wrong with them; pg_amcheck's words.

    Each of the last two is empty, and so is the first, when all is well.
    """

    refused: str = ""
    books: str = ""
    found: str = ""
    counted: int = 0

    def __str__(self) -> str:
        first = "; ".join(self.found.splitlines()[:2])
        told = f"pg_amcheck: {len(self.found.splitlines()) // 2} findings, {first}" if self.found else ""
        return " / ".join(part for part in (self.refused, self.books, told) if part) or f"clean, {self.counted} counted"

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to be said against the copy."""
        return not (self.refused or self.books or self.found)


class Bank:
    """A bank in a running server; `told` is the file with the last number that the server has taken for safe."""

    def __init__(self, cluster: Cluster, directory: Path, tablespace: Path) -> None:
        self._cluster = cluster
        self.told = directory / "told"
        self.told.touch()
        cluster.tablespace("bank", tablespace)
        cluster.sql("create database bank")
        where = ["--tablespace=bank", "--index-tablespace=bank"]
        cluster.run("pgbench", "--initialize", "--quiet", f"--scale={SCALE}", *where, "bank")
        cluster.sql("create table counter (n int primary key)", "bank")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Have its clients work for the length of the block."""
        words = ["--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", "--time=100000", "bank"]
        argv = self._cluster.argv("pgbench", *words)
        clients = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
        over, failed = threading.Event(), list[BaseException]()
        counter = threading.Thread(target=self._count, args=(over, failed))
        counter.start()
        try:
            self._wait_for_more()
            yield
            assert not failed, failed
            assert clients.poll() is None, clients.communicate()
        finally:
            over.set()
            counter.join()
            clients.terminate()
            clients.communicate()

    def acknowledged(self) -> int:
        """Return the last number that the server has taken for safe."""
        return int(self.told.read_text() or "0")

    def _wait_for_more(self) -> None:
        query = "select count(*) from pgbench_history"
        before, number = int(self._cluster.sql(query, "bank")), self.acknowledged()
        wait_for(lambda: int(self._cluster.sql(query, "bank")) > before + 100, "the clients to be at work", 600)
        assert self.acknowledged() > number

    def _count(self, over: threading.Event, failed: list[BaseException]) -> None:
        """Store one number after the other, each in a transaction of its own, and tell of each that is safe."""
        argv = self._cluster.argv("psql", "-X", "-q", "-A", "-t", "-d", "bank")
        told = os.open(self.told, os.O_WRONLY)
        number = self.acknowledged()
        try:
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as client:
                assert client.stdin
                assert client.stdout
                while not over.wait(PACE):
                    number += 1
                    client.stdin.write(f"insert into counter values ({number}) returning n;\n")
                    client.stdin.flush()
                    assert client.stdout.readline() == f"{number}\n"
                    os.pwrite(told, b"%012d" % number, 0)
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(told)


def _checked(copy: Cluster) -> str:
    """Look at every page; return what is wrong. Before version 14 there is no pg_amcheck, and only indexes are checked.

    With each index goes its table, of which every row must be in the index.
    """
    if (copy.programs / "pg_amcheck").exists():
        check = copy.run("pg_amcheck", "--all", "--install-missing", "--heapallindexed", status=None)
    else:
        check = copy.run("psql", "-X", "-q", "-A", "-t", "-d", "bank", "-c", INDEXES, status=None)
    found = "\n".join(line for line in f"{check.out}{check.err}".splitlines() if line.strip())
    assert found or not check.status, check
    return found


def judge(copy: Cluster, over: Mapping[Path, Path]) -> Verdict:
    """Start a copy of the server over the original paths, for itself alone, and look at every page of it."""
    owned(copy.sockets)
    try:
        with copy.running(COPY, over):
            books = copy.run("psql", "-X", "-A", "-t", "-d", "bank", "-c", BOOKS, status=None)
            found = _checked(copy)
        if copy.checksums:
            pages = copy.run("pg_checksums", "--check", "-D", copy.data, status=None, over=over)
            found += f"{pages.out}{pages.err}" if pages.status else ""
    except ServerError as error:
        return Verdict(refused=str(error))
    if books.status:
        return Verdict(books=books.err, found=found)
    *sums, count, last = (int(number) for number in books.out.split("|"))
    agree = len(set(sums)) == 1 and count == last
    return Verdict(books="" if agree else books.out, found=found, counted=last)
