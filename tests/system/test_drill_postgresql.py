"""Drills of PostgreSQL: a cluster on three volumes starts from its archive; archives that are wrong are found."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from borg_lvm.plugins.drill import Restored
from borg_lvm_hooks.applications.postgresql.drill import PostgreSQLJudge
from borg_lvm_hooks.applications.postgresql.psql import Options
from tests.rig import Rig
from tests.system.support.backups.archives import Tar
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.runs.live import Programs, borg_lvm_argv, tidy, wait_for
from tests.system.support.runs.program import run
from tests.system.support.servers.postgres import BIN, OWN, Cluster, cluster
from tests.system.support.servers.served import THICK, volumes

pytestmark = [pytest.mark.limit(1800), pytest.mark.needs("postgresql")]
ROWS = 3000
PAGE = 8192


@dataclass
class Kept:
    """A cluster on three volumes, with what is drilled, and the file of a table."""

    cluster: Cluster
    places: tuple[Path, Path, Path]
    drills: Drills
    table: str

    @property
    def command(self) -> list[str | Path]:
        """The backup command."""
        return self.drills.archives.create("a", *self.places)


@pytest.fixture
def kept(rig: Rig) -> Iterator[Kept]:
    """Give a cluster with a table and an index in a tablespace, and changes since its last checkpoint."""
    log, tables, data = volumes(rig, THICK)
    new = Cluster(data / "data", rig.path("sockets"), checksums=True)
    with tidy(), cluster(new, {"fsync": "off"}, log / "log") as server:
        server.tablespace("apart", tables / "tables")
        for name, place in (("near", ""), ("far", "TABLESPACE apart")):
            server.sql(f"CREATE TABLE {name} (i int PRIMARY KEY, x text) {place}")
            server.sql(f"INSERT INTO {name} SELECT g, repeat('x', 100) FROM generate_series(1, {ROWS}) g")
        server.sql("ALTER SYSTEM SET archive_mode = on")
        server.sql("ALTER SYSTEM SET archive_command = 'false'")
        options = {"socket": str(new.sockets), "os_user": "postgres"}
        entry = {"plugin": "postgresql", "name": "shop", "options": options}
        drills = Drills(rig, data, [entry], Tar.made(rig.path("archives")))
        rig.path("scratch").mkdir()
        yield Kept(server, (log, tables, data), drills, server.sql("SELECT pg_relation_filepath('near')"))


def test_a_good_archive_passes_and_wrong_ones_do_not(kept: Kept) -> None:
    started = kept.cluster.sql("SELECT pg_postmaster_start_time()")
    kept.drills.saved(kept.command)
    said = kept.drills.drill(kept.command)
    assert verdicts(said) == {"shop": "good"}
    assert "shop: right: pg_amcheck --heapallindexed: 2 databases" in said.err
    assert "shop: right: pg_checksums --check" in said.err
    assert "shop: start " in said.err
    for name, (spoil, words) in WRONG.items():
        if name in SIMILAR and "BORG_LVM_RUNS" not in os.environ:
            continue
        kept.drills.spoiled(name, kept.places, partial(spoil, kept.table))
        said = kept.drills.drill(kept.command, archive=name, status=74)
        assert verdicts(said) == {"shop": "bad"}, name
        assert words in said.err, name
    torn(kept, "torn")
    said = kept.drills.drill(kept.command, archive="torn", status=74)
    assert verdicts(said) == {"shop": "bad"}
    assert WRONG["no-log"][1] in said.err
    assert kept.cluster.sql("SELECT pg_postmaster_start_time()") == started


MORE = f"INSERT INTO near SELECT (SELECT max(i) FROM near) + g, 'more' FROM generate_series(1, {ROWS}) g"


def torn(kept: Kept, name: str) -> None:
    """Save the volumes one after the other, the log first, while the server writes and has checkpoints.

    Without an application: of one that goes on writing such a run is refused. Each snapshot is later than a checkpoint,
    whose record is written after all snapshots before it: the log that was saved never has the one that is needed.
    """
    programs = Programs(kept.drills.rig.path(f"programs-{name}"))
    programs.first("lvm", shlex.join(map(str, kept.cluster.argv("psql", "-Xq", "-c", MORE, "-c", "CHECKPOINT"))))
    create = kept.drills.archives.create(name, *kept.places)
    argv = borg_lvm_argv("run", "--consistency", "per-volume", "--", *create, programs=programs)
    run(*argv)


def no_log(table: str, places: Sequence[Path]) -> None:
    for path in (places[0] / "log").iterdir():
        if path.is_file():
            path.unlink()


def no_tablespace(table: str, places: Sequence[Path]) -> None:
    shutil.rmtree(places[1] / "tables")


def empty_tablespace(table: str, places: Sequence[Path]) -> None:
    for path in (places[1] / "tables").iterdir():
        shutil.rmtree(path)


def flipped_page(table: str, places: Sequence[Path]) -> None:
    with (places[2] / "data" / table).open("r+b") as file:
        file.seek(PAGE * 5 + 4000)
        byte = file.read(1)
        file.seek(PAGE * 5 + 4000)
        file.write(bytes([byte[0] ^ 1]))


Spoil = Callable[[str, Sequence[Path]], None]
WRONG: dict[str, tuple[Spoil, str]] = {
    "no-log": (no_log, "could not locate a valid checkpoint record"),
    "no-tablespace": (no_tablespace, "(tablespace)"),
    "empty-tablespace": (empty_tablespace, 'could not open file "pg_tblspc/'),
    "flipped-page": (flipped_page, "checksum verification failed in file"),
}
SIMILAR = {"empty-tablespace", "no-log"}
"""What is much like another one of these, or like what is torn: for the soak."""


ACTS = {
    "archive_mode": "on",
    "archive_command": "touch {0}/archived; false",
    "shared_preload_libraries": "pg_prewarm",  # which starts a process of its own, as pg_cron does
    "primary_conninfo": "host={0} port=1 user=standby",
    "restore_command": "touch {0}/fetched; false",
}


@pytest.fixture
def acting() -> Iterator[tuple[Path, Path]]:
    """Give a cluster, which is stopped, that does all that a restored one must not do; and where that shows."""
    directory = Path("/run/borg-lvm-test-acting")
    directory.mkdir(mode=0o755)
    seen = directory / "seen"
    seen.mkdir()
    shutil.chown(seen, "postgres", "postgres")
    new = Cluster(directory / "data", directory / "sockets")
    new.sockets.mkdir()
    shutil.chown(new.sockets, "postgres", "postgres")
    new.initdb()
    with new.running({"fsync": "off", "wal_level": "logical"}):
        new.sql("CREATE TABLE t (i int)")
        other = f"host={seen} port=2 user=publisher"
        new.sql(f"CREATE SUBSCRIPTION s CONNECTION '{other}' PUBLICATION p WITH (connect = false)")
        new.sql("ALTER SUBSCRIPTION s ENABLE")
    settings = "".join(f"{name} = '{value.format(seen)}'\n" for name, value in ACTS.items())
    with (new.data / "postgresql.auto.conf").open("a") as file:
        file.write(settings)
    try:
        yield directory, seen
    finally:
        shutil.rmtree(directory)


@contextmanager
def listening(seen: Path, port: int) -> Iterator[Callable[[], bool]]:
    """Listen where a server would be; tells whether anybody has come."""
    path = seen / f".s.PGSQL.{port}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.listen(10)
        server.settimeout(0.1)

        def came() -> bool:
            with suppress(TimeoutError):
                server.accept()[0].close()
                return True
            return False

        yield came
    path.unlink()


def acted(
    directory: Path, seen: Path, argv: list[str], *, standby: bool, seconds: float = 60.0
) -> tuple[set[str], float]:
    """Start a server; return what it has done, at most within so many seconds, and when that was all."""
    if standby:
        (directory / "data" / "standby.signal").touch()
        shutil.chown(directory / "data" / "standby.signal", "postgres", "postgres")
    wanted = {"fetched", "followed"} if standby else {"archived", "subscribed", "preloaded"}
    found: set[str] = set()
    become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    log = (directory / "log").open("wb")
    with listening(seen, 1) as followed, listening(seen, 2) as subscribed, log:
        server = subprocess.Popen([*become, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        try:
            wait_for(lambda: is_up(directory), "the server")
            begin = time.monotonic()
            while not found >= wanted and time.monotonic() - begin < seconds:
                sql(directory, "SELECT pg_switch_wal()")
                sql(directory, "INSERT INTO t VALUES (1)")
                found |= {"followed"} if followed() else set()
                found |= {"subscribed"} if subscribed() else set()
                found |= {path.name for path in seen.iterdir() if not path.name.startswith(".")}
                if sql(directory, "SELECT current_setting('pg_prewarm.autoprewarm', true)"):
                    found.add("preloaded")
            took = time.monotonic() - begin
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()
            server.wait()
    for path in seen.iterdir():
        path.unlink()
    return found, took


def is_up(directory: Path) -> bool:
    return bool(sql(directory, "SELECT 1"))


def sql(directory: Path, text: str) -> str:
    argv = [str(BIN / "psql"), "-XAtq", "-h", f"{directory}/sockets", "-U", "postgres", "-c", text, "postgres"]
    said: str = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    return said.strip()


@pytest.mark.parametrize("standby", [False, True])
def test_a_restored_server_does_not_act(acting: tuple[Path, Path], *, standby: bool) -> None:
    directory, seen = acting
    plain = [str(BIN / "postgres"), "-D", f"{directory}/data", "-c", f"unix_socket_directories={directory}/sockets"]
    wanted = {"fetched", "followed"} if standby else {"archived", "subscribed", "preloaded"}
    found, took = acted(directory, seen, [*plain, "-c", "listen_addresses="], standby=standby)
    assert found >= wanted
    judge = PostgreSQLJudge(Restored("pg", OWN, (f"{directory}/data",), ("data",), "", Options()))
    control = run(BIN / "pg_controldata", "-D", directory / "data").out
    if standby:
        (directory / "data" / "standby.signal").touch()
    argv = judge.command(int(OWN), str(BIN), control, f"{directory}/sockets")
    for path in (directory / "sockets").iterdir():
        shutil.chown(path, "postgres", "postgres")
    assert not (directory / "data" / "standby.signal").exists()
    assert acted(directory, seen, argv, standby=False, seconds=2 * took + 2)[0] == set()


LEAK = r"""
CREATE FUNCTION leak(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    secret text;
BEGIN
    BEGIN
        secret := pg_read_file('{secret}');
    EXCEPTION WHEN OTHERS THEN
        RETURN i;
    END;
    RAISE EXCEPTION 'it reads: %', secret;
END $$;
CREATE TABLE reads AS SELECT 1 AS i;
CREATE INDEX ON reads (leak(i));
"""
"""What the owner of a cluster has in it: whoever checks the index reads a file for them, where they are let in."""


def test_what_is_kept_from_its_owner_is_not_shown(kept: Kept) -> None:
    """A directory above it does, which is not in the sandbox: its owner's server read what is for others' eyes."""
    private = kept.places[1] / "alice"
    documents = private / "documents"
    documents.mkdir(parents=True)
    (documents / "secret").write_text("for alice alone")
    private.chmod(0o700)
    server = kept.cluster
    server.tablespace("spare", kept.places[1] / "spare")
    server.sql(LEAK.format(secret=documents / "secret"))
    number = server.sql("SELECT oid FROM pg_tablespace WHERE spcname = 'spare'")
    user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
    run(*user, "ln", "-sfn", documents, server.data / "pg_tblspc" / number)
    kept.drills.saved(kept.command)
    said = kept.drills.drill(kept.command, status=None)
    assert "for alice alone" not in said.err
    assert verdicts(said) == {"shop": "not judged"}
    assert f"{documents} belongs to user 0, and {server.data} to user " in said.err
    assert said.status == 77
