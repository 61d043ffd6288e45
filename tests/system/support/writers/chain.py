"""Four programs on four volumes, and a writer whose every number goes through all of them, from one to the next.

PostgreSQL takes a number, then MariaDB, then Redis, then a file; and only then comes the next. At every instant each
has the number of the one before it, or the one less: in one place of the chain only (`writers.broken`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from borg_lvm_hooks.applications.redis.resp import Client
from tests.rig import Rig
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.live import Programs, borg_lvm_argv, wait_for
from tests.system.support.runs.program import Said, run
from tests.system.support.servers import kept, maria
from tests.system.support.servers.postgres import Cluster, ServerError, owned

Commit = Callable[[int], object]
"""Has a program take a number for safe."""
MARIA = ("data", "redo", "binlog")
TABLE = "CREATE DATABASE shop; CREATE TABLE shop.chain (n INT) ENGINE=InnoDB; INSERT INTO shop.chain VALUES (0);"
SMALL = {"shared_buffers": "16MB"}
COPY = {"shared_buffers": "16MB", "autovacuum": "off", "fsync": "off"}


class Chain:
    """Four programs, each on a volume of its own, and a writer that goes from one to the next."""

    def __init__(self, rig: Rig, stack: ExitStack) -> None:
        rig.directory.chmod(0o755)
        self.rig = rig
        points = [rig.path(name) for name in ("1-postgresql", "2-mariadb", "3-redis", "4-file")]
        groups = [rig.group(), rig.group()]
        self.volumes = [
            rig.volume(at.name[2:], fs="ext4", mib=mib, at=at, group=groups[number % 2])
            for number, (at, mib) in enumerate(zip(points, (128, 192, 48, 48), strict=True))
        ]
        self.points = points
        self.cluster = Cluster(points[0] / "data", rig.path("sockets"))
        owned(self.cluster.sockets)
        self.cluster.initdb()
        self._served = stack.enter_context(ExitStack())
        self.start_postgresql()
        self.cluster.sql("create table chain (n int); insert into chain values (0)")
        self.maria = maria.Server([points[1] / name for name in MARIA], TABLE)
        stack.callback(shutil.rmtree, maria.BASE)
        stack.callback(self.maria.end)
        self.redis = kept.Server(points[2] / "data", "live", *kept.ALWAYS)
        stack.callback(shutil.rmtree, kept.BASE)
        stack.callback(self.redis.end)
        self.borg = Borg.made(rig.path("borg"))
        self.acknowledged = 0

    def start_postgresql(self) -> None:
        """Have PostgreSQL run, also when it was killed."""
        with suppress(ServerError):
            self._served.close()
        self._served.enter_context(self.cluster.running(SMALL))
        self.postmaster = int((self.cluster.data / "postmaster.pid").read_text().split()[0])

    def config(self, **settings: object) -> Path:
        """Write the configuration with all three servers, and settings beside the usual ones."""
        entries: list[dict[str, Any]] = [
            {"plugin": "postgresql", "options": {"socket": str(self.cluster.sockets)}},
            {"plugin": "mariadb", "options": {"socket": str(self.maria.socket)}},
            {"plugin": "redis", "level": "pause", "options": {"socket": self.redis.socket}},
        ]
        path = Path("/run/borg-lvm-test-chained.yaml")
        usual = {"deadline": 40, "command_timeout": 600, "applications": entries}
        path.write_text(yaml.safe_dump({**usual, **settings}))
        return path

    def create(self, archive: str) -> list[str | Path]:
        """Return the command line of borg."""
        return ["borg", "create", "--compression", "none", self.borg.archive(archive), *self.points]

    def backup(self, archive: str, *options: str | Path, programs: Programs | None = None) -> Said:
        """Have borg-lvm run borg."""
        words = ["run", *options, "--snapshot-size", "80%ORIGIN", "--", *self.create(archive)]
        return run(*borg_lvm_argv(*words, programs=programs), env=self.borg.env)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Have the writer go on for the length of the block."""
        with ExitStack() as stack:
            programs = [stack.enter_context(one()) for one in (self.postgresql, self.mariadb, self.to_redis, self.file)]

            def write(over: threading.Event) -> None:
                while not over.is_set():
                    for commit in programs:
                        commit(self.acknowledged + 1)
                    self.acknowledged += 1

            before = self.acknowledged
            failed = stack.enter_context(beside(write))
            wait_for(lambda: failed or self.acknowledged > before + 10, "the writer")
            yield

    @contextmanager
    def postgresql(self) -> Iterator[Commit]:
        """Give a session of PostgreSQL's."""
        argv = self.cluster.argv("psql", "-X", "-q", "-A", "-t")
        with talking(argv, "update chain set n = {0} returning n;") as commit:
            yield commit

    @contextmanager
    def mariadb(self) -> Iterator[Commit]:
        """Give a session of MariaDB's."""
        argv = [*maria.client(self.maria.socket, "shop"), "--unbuffered"]
        with talking(argv, "UPDATE chain SET n = {0}; SELECT {0};") as commit:
            yield commit

    @contextmanager
    def to_redis(self) -> Iterator[Commit]:
        """Give a connection to Redis."""
        client = Client(self.redis.socket, 10.0)
        try:
            yield lambda number: client.do("SET", "n", str(number), seconds=60.0)
        finally:
            client.close()

    @contextmanager
    def file(self) -> Iterator[Commit]:
        """Give the file."""
        fd = os.open(self.points[3] / "chain", os.O_WRONLY | os.O_CREAT | os.O_DSYNC, 0o600)
        try:
            yield lambda number: os.pwrite(fd, b"%012d" % number, 0)
        finally:
            os.close(fd)

    def shown(self, archive: str) -> list[int]:
        """Extract a copy, start its servers, and return the number that each has, in the order of the chain.

        A server that does not start has none.
        """
        directory = self.rig.path("extracted")
        directory.mkdir()
        self.borg.extract(archive, directory)
        copies = [directory / point.relative_to("/") for point in self.points]
        found = []
        with suppress(ServerError):
            found.append(self._in_postgresql(copies[0]))
        with suppress(maria.ServerError), self.maria.copy([copies[1] / name for name in MARIA]) as socket:
            found.append(int(maria.query(socket, "SELECT n FROM chain", "shop").out))
        found.append(kept.counted(copies[2] / "data", *kept.ALWAYS))
        found.append(int((copies[3] / "chain").read_text()))
        shutil.rmtree(directory)
        print(f"{archive}:", *found)
        return found

    def _in_postgresql(self, copy: Path) -> int:
        (copy / "data" / "postmaster.pid").unlink()  # names the server that goes on
        other = replace(self.cluster, sockets=self.rig.path("other-sockets"))
        owned(other.sockets)
        try:
            with other.running(COPY, {self.points[0]: copy}):
                return int(other.sql("select n from chain"))
        finally:
            shutil.rmtree(other.sockets)


@contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[list[BaseException]]:
    """Do work in a thread until the end of the block, which its event tells; gives what has gone wrong with it."""
    over, failed = threading.Event(), list[BaseException]()

    def guarded() -> None:
        try:
            work(over)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield failed
    finally:
        over.set()
        thread.join()
    assert not failed, failed


@contextmanager
def talking(argv: Sequence[str | Path], statement: str) -> Iterator[Commit]:
    """Give what has a client do a statement with a number, and waits until it tells that number."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as client:
        assert client.stdin
        assert client.stdout
        into, out = client.stdin, client.stdout

        def commit(number: int) -> None:
            into.write(f"{statement.format(number)}\n")
            into.flush()
            assert out.readline() == f"{number}\n"

        yield commit
