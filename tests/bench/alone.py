"""How long a client of an application waits that stands still alone, on one volume; compared as in `applications`."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bench import stalls
from tests.bench.applications import HEAD, QUIET, Waits, row, span
from tests.bench.clock import Series
from tests.rig import Rig, Volume
from tests.system.support.hosts.boxes import boxes
from tests.system.support.hosts.units import CGROUPS, managed
from tests.system.support.runs.live import wait_for
from tests.system.support.runs.program import run
from tests.system.support.servers import maria
from tests.system.support.servers.mysql import MySQL
from tests.system.support.writers.chain import Commit, beside, talking
from tests.system.support.writers.worker import SCRIPT, script

BASE = Path("/run/borg-lvm-bench")
TABLE = "CREATE TABLE chain (n INT); INSERT INTO chain VALUES (0);"
PATIENCE = 60.0


@dataclass(frozen=True)
class Sort:
    """An application on a volume: how it is configured, a session of a client's, and its bare commands."""

    entry: Mapping[str, Any]
    session: Callable[[], AbstractContextManager[Commit]]
    commands: Callable[[], object]


def measured(rig: Rig, environment: Mapping[str, str], rounds: int) -> Iterator[str]:
    """Measure and yield a table; every figure is in units of a bare `lvcreate -s` of the same round."""
    rig.directory.chmod(0o755)
    yield "\nThe same for applications that stand still alone, each in a run of its one volume:\n"
    yield HEAD
    for number, (name, sort) in enumerate(SORTS.items()):
        volume = rig.volume(f"sort{number}", fs="ext4", mib=192, at=rig.path(f"sort{number}"))
        BASE.mkdir(mode=0o755)
        try:
            with sort(volume) as made:
                rows = [_round(volume, made, environment) for _ in range(rounds)]
        except pytest.skip.Exception as reason:
            yield f"| {name} | not measured: {reason} | | | |"
            continue
        finally:
            run("rm", "-r", BASE)
        for gaps in rows:
            print(f"  {name}: {', '.join(f'{gap:.2f}' for gap in gaps)}", flush=True)
        yield row(name, rows)


def _round(volume: Volume, sort: Sort, environment: Mapping[str, str]) -> list[float]:
    begin, end = stalls.bare(volume, environment)
    unit = end - begin
    config = BASE / "config.yaml"
    config.write_text(yaml.safe_dump({"deadline": 60, "command_timeout": 600, "applications": [sort.entry]}))
    argv = ["borg-lvm", "run", "--config", str(config), "--snapshot-size", "32MiB", "--path", str(volume.at)]
    series = Series("borg-lvm run", [*argv, "--", "true"])
    waits = Waits()
    with ExitStack() as stack:
        stack.enter_context(beside(waits.work(stack.enter_context(sort.session()))))
        time.sleep(QUIET)  # it has begun
        spans = [span(lambda: series.take(environment)), span(sort.commands), stalls.bare(volume, environment)]
        time.sleep(0.5)
        spans.append(span(lambda: time.sleep(QUIET)))
    return [waits.longest(*one) / unit for one in spans]


def _mysql(level: str, *statements: str) -> Callable[[Volume], AbstractContextManager[Sort]]:
    @contextmanager
    def sort(volume: Volume) -> Iterator[Sort]:
        assert volume.at
        server = MySQL([volume.at / name for name in ("data", "redo", "binlog")], plain=False)
        server.sql(TABLE)
        argv = [*maria.client(server.socket, "shop", server.brand), "--unbuffered"]
        try:
            yield Sort(
                {"plugin": "mysql", "level": level, "options": {"socket": str(server.socket)}},
                lambda: talking(argv, "UPDATE chain SET n = {0}; SELECT {0};"),
                lambda: server.sql("; ".join(statements)),
            )
        finally:
            server.end()
            run("rm", "-r", maria.BASE)

    return sort


@contextmanager
def _sqlite(volume: Volume) -> Iterator[Sort]:
    assert volume.at
    path = volume.at / "shop.db"

    def connected() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)

    @contextmanager
    def session() -> Iterator[Commit]:
        connection = connected()
        try:
            yield lambda number: connection.execute("UPDATE chain SET n = ?", (number,))
        finally:
            connection.close()

    def commands() -> None:
        holder = connected()
        holder.execute("BEGIN IMMEDIATE")
        holder.execute("ROLLBACK")
        holder.close()

    connection = connected()
    connection.executescript(TABLE)
    connection.close()
    yield Sort({"plugin": "sqlite", "options": {"databases": [str(path)]}}, session, commands)


@contextmanager
def _unit(volume: Volume) -> Iterator[Sort]:
    assert volume.at
    directory = volume.at
    with managed(BASE / "units") as manager:
        manager.add("words.service", str(script(BASE / "worker", SCRIPT.format(directory=directory))))
        options = {"units": ["words.service"], "paths": [str(directory)]}
        group = manager.do("show", "--property=ControlGroup", "--value", "words.service").out.strip()
        yield Sort(
            {"plugin": "systemd", "options": options},
            lambda: _words(directory),
            _freezing(f"{CGROUPS}{group}/cgroup.freeze"),
        )
        manager.remove("words.service")


def _container(level: str) -> Callable[[Volume], AbstractContextManager[Sort]]:
    @contextmanager
    def sort(volume: Volume) -> Iterator[Sort]:
        assert volume.at
        directory = volume.at
        with boxes("podman", BASE / "boxes") as engine:
            engine.start("words", script(BASE / "worker", SCRIPT.format(directory=directory)), directory)
            commands = {
                "pause": lambda: [engine.do(word, "words") for word in ("pause", "unpause")],
                "freeze": _freezing(f"{engine.group('words')}/cgroup.freeze"),
            }
            entry = {"plugin": "podman", "level": level, "options": {"containers": ["words"]}}
            yield Sort(entry, lambda: _words(directory), commands[level])
            engine.remove("words")

    return sort


def _freezing(file: str) -> Callable[[], object]:
    return lambda: run("sh", "-ec", f"echo 1 >{file}; echo 0 >{file}")


@contextmanager
def _words(directory: Path) -> Iterator[Commit]:
    """Give what has the worker in a directory write down a number, and waits until it has."""
    wait_for((directory / "pipe").is_fifo, "the worker")
    pipe = os.open(directory / "pipe", os.O_RDWR)
    (directory / "words").touch()
    written = os.open(directory / "words", os.O_RDONLY)

    def commit(number: int) -> None:
        word = b"%d\n" % number
        before = os.fstat(written).st_size
        os.write(pipe, word)
        while os.fstat(written).st_size < before + len(word):
            time.sleep(0.001)

    try:
        yield commit
    finally:
        os.close(pipe)
        os.close(written)


SORTS: Mapping[str, Callable[[Volume], AbstractContextManager[Sort]]] = {
    "MySQL, `lock` (InnoDB alone)": _mysql("lock", "LOCK INSTANCE FOR BACKUP", "UNLOCK INSTANCE"),
    "MySQL, `read-lock`": _mysql(
        "read-lock", "LOCK INSTANCE FOR BACKUP", "FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES", "UNLOCK INSTANCE"
    ),
    "SQLite": _sqlite,
    "a unit, `freeze`": _unit,
    "a container of podman, `pause`": _container("pause"),
    "a container of podman, `freeze`": _container("freeze"),
}
