"""Drills of containers: what is in their volumes is judged by the plugin of what ran in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.hosts.boxes import IMAGE, Boxes, boxes
from tests.system.support.runs.live import tidy, wait_for
from tests.system.support.runs.program import Said, run

pytestmark = [pytest.mark.limit(1800), pytest.mark.needs("podman", "postgresql", "redis", "borg")]
BASE = Path("/run/borg-lvm-test-drill-containers")
OWNER = 4242  # whom this machine does not know, as is so with an image's own users
SYSTEM = [f"--volume={path}:{path}:ro" for path in ("/usr", "/etc/ld.so.cache", "/etc/ssl")]
RUN = "busybox ln -s usr/lib64 /lib64; busybox ln -s usr/lib /lib; exec {command}"
AS_OWNER = f"/usr/bin/setpriv --reuid={OWNER} --regid={OWNER} --clear-groups"
PLACES = "/var/lib/postgresql/data", "/spaces/one"


@pytest.fixture
def podman() -> Iterator[Boxes]:
    with boxes("podman", BASE) as made:
        yield made
        made.remove("db", "cache")


def started(podman: Boxes, name: str, command: str, *words: str) -> None:
    """Start a container with this machine's programs."""
    directories = [*SYSTEM, "--tmpfs=/tmp"]
    argv = ["run", "--detach", "--name", name, "--network=none", *directories, *words, IMAGE, "/bin/sh", "-c"]
    podman.do(*argv, RUN.format(command=command))


def postgresql(podman: Boxes, programs: Path, data: Path, space: Path) -> None:
    """Have a server in a container, whose only superuser has a name of its own, with a tablespace in another volume."""
    made = data.parent / "made"
    made.mkdir()
    shutil.chown(made, "postgres", "postgres")
    initdb = [programs / "initdb", "-U", "shop", "-A", "trust", "--no-sync", "-k", "-D", made / "data"]
    run("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *map(str, initdb))
    shutil.copytree(made / "data", data, dirs_exist_ok=True)
    for path in (data, space):
        path.chmod(0o700)
        run("chown", "-R", f"{OWNER}:{OWNER}", path)
    binds = [f"--volume={source}:{place}" for source, place in zip((data, space), PLACES, strict=True)]
    server = f"{programs}/postgres -D {PLACES[0]} -k {PLACES[0]} -c listen_addresses="
    started(podman, "db", f"{AS_OWNER} {server}", *binds)

    def ask(query: str, status: int | None = 0) -> Said:
        return run(programs / "psql", "-XAtq", "-h", data, "-U", "shop", "-d", "postgres", "-c", query, status=status)

    wait_for(lambda: ask("SELECT 1", None).status == 0, "PostgreSQL")
    ask(f"CREATE TABLESPACE one LOCATION '{PLACES[1]}'")
    ask("CREATE TABLE orders TABLESPACE one AS SELECT n AS id, repeat('x', 50) AS text FROM generate_series(1, 2000) n")
    ask("CHECKPOINT")
    ask("CREATE TABLE later TABLESPACE one AS SELECT 1 AS id")  # is in the WAL alone


def redis(podman: Boxes, data: Path) -> None:
    """Have a server in a container."""
    words = "--dir /data --unixsocket /data/socket --port 0 --appendonly yes --save ''"
    started(podman, "cache", f"/usr/bin/redis-server {words}", f"--volume={data}:/data")

    def ask(*words: str) -> Said:
        return run("redis-cli", "-s", data / "socket", *words, status=None)

    wait_for(lambda: ask("PING").out.strip() == "PONG", "Redis")
    ask("MSET", "one", "1", "two", "2")


def flipped(places: Sequence[Path]) -> None:
    """Spoil a page of the table in the tablespace."""
    (file,) = sorted(places[0].glob("PG_*/*/*"), key=lambda one: -one.stat().st_size)[:1]
    with file.open("r+b") as opened:
        opened.seek(8192 + 2000)
        opened.write(b"\xff" * 64)


def test_the_data_trees_of_containers(rig: Rig, podman: Boxes) -> None:
    with tidy():
        drills = Drills.made(rig)
        directories = [drills.data / name for name in ("db", "space", "cache")]
        for directory in directories:
            directory.mkdir()
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        postgresql(podman, programs, directories[0], directories[1])
        redis(podman, directories[2])
        options = {"containers": ["db", "cache"]}
        entry = {"plugin": "podman", "name": "shop", "level": "freeze", "deadline": 60, "options": options}
        drills.applications.append(entry)
        command = drills.command()
        drills.saved(command)
        assert [podman.facts(name)["State"]["Status"] for name in ("db", "cache")] == ["running"] * 2
        podman.remove("db", "cache")
        said = drills.drill(command)
        assert verdicts(said) == {"shop": "good"}
        assert f"shop: right: postgresql in {directories[0]}: pg_amcheck --heapallindexed" in said.err
        assert f"shop: right: postgresql in {directories[0]}: pg_checksums --check" in said.err
        assert f"shop: right: redis in {directories[2]}: append-only file loaded: 2 keys" in said.err
        drills.spoiled("flipped", [directories[1], directories[0], directories[2]], flipped)
        said = drills.drill(command, archive="flipped", status=74)
        assert verdicts(said) == {"shop": "bad"}
        assert f"shop: wrong: postgresql in {directories[0]}: " in said.err
        assert f"shop: right: redis in {directories[2]}: " in said.err
