"""One configuration of borgmatic's, four ways to run it: plain, `borg-lvm run --`, `local_path`, begin and end around.

Nothing else differs, but that the last one names its sources and excludes below the view.

Two encrypted repositories whose pass phrase a command tells, a dump of PostgreSQL, patterns, excludes, nested volumes,
and no other file system entered but those that are named.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.matic import BORGMATIC, Borgmatic, letters
from tests.system.support.runs.gate import BORG_LVM
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import Said, run
from tests.system.support.servers.postgres import BIN as POSTGRES
from tests.system.support.servers.postgres import Cluster, cluster

pytestmark = [
    pytest.mark.limit(3600),
    pytest.mark.soak,
    pytest.mark.needs("postgresql"),
]  # seconds; a fraction of it on an idle machine

SECRET = "a pass phrase"
TIMES = 3
WAYS: dict[str, tuple[tuple[str | Path, ...], dict[str, object]]] = {
    "plain": ((), {}),
    "run": ((BORG_LVM, "run", "--"), {}),
    "in-place": ((), {"local_path": "borg-lvm-borg"}),
    "around": ((), {}),
}
VIEW = "/run/borg-lvm/view/nightly"
LINES = ["+ re:/keep\\.tmp$", "- sh:**/*.tmp"]


@pytest.fixture
def server(rig: Rig) -> Iterator[Cluster]:
    """Give a PostgreSQL server with its data on a volume, and a table in it."""
    with tidy():
        top = planted(rig)
        new = Cluster(top / "postgres", rig.path("sockets"))
        rig.directory.chmod(0o755)  # its user must come there
        with cluster(new, {"shared_buffers": "1MB", "fsync": "off"}) as running:
            running.sql("create table goods (name text); insert into goods values ('first')")
            os.sync()
            yield running
    assert_nothing_left(rig)


def planted(rig: Rig) -> Path:
    """Make a volume with another one inside of it, and a file system below that is to be left alone; return its top."""
    top = rig.volume("outer", fs="ext4", mib=200, at=rig.path("outer")).at
    assert top
    (top / "www").mkdir()
    inner = rig.volume("inner", fs="xfs", mib=400, at=top / "www").at
    assert inner
    for name in ("page", "keep.tmp", "drop.tmp", "cache/page"):
        (inner / name).parent.mkdir(exist_ok=True)
        (inner / name).write_text(name)
    for number in range(5):
        (top / f"file{number}").write_text(str(number))
    return top


class Configured:
    """The configuration, and its two repositories."""

    def __init__(self, directory: Path, server: Cluster) -> None:
        self.matic = Borgmatic.made(directory)
        self.top = server.data.parent
        self.repositories = [directory / "borg" / name for name in ("one", "two")]
        dump = {"name": "all", "username": "postgres", "pg_dump_command": str(POSTGRES / "pg_dumpall")}
        self.settings: dict[str, object] = {
            "repositories": [{"path": str(path)} for path in self.repositories],
            "encryption_passcommand": f"echo {SECRET}",
            **self.choice("", ""),
            "one_file_system": True,
            "postgresql_databases": [dump],
        }
        # By PGHOST, for borgmatic takes a directory as the `hostname` for a part of the dump's path.
        self.server = {"PGHOST": str(server.sockets)}
        self.env = self.matic.borg.env | {"BORG_PASSPHRASE": SECRET}
        for repository in self.repositories:
            run("borg", "init", "--encryption", "repokey-blake2", repository, env=self.env)

    def choice(self, view: str, cut: str) -> dict[str, object]:
        """Return what chooses the files, all below `view`; borg leaves what is before `cut` out of its archives."""
        return {
            "source_directories": [f"{view}{cut}{self.top}"],
            "patterns": [f"R {view}{cut}{self.top}/www", *LINES, f"- {view}{self.top}/www/cache"],
            "exclude_patterns": [f"{view}{self.top}/postgres"],
        }

    def around(self) -> dict[str, object]:
        """Return the settings for a begin and an end as borgmatic's commands, as in contrib/borgmatic/around.yaml."""
        begin = f"borg-lvm begin nightly --path {self.top} --path {self.top}/www"
        steps = [
            {"before": "configuration", "when": ["create"], "run": [begin]},
            {"after": "configuration", "when": ["create"], "run": ["borg-lvm end nightly"]},
        ]
        return {**self.choice(VIEW, "/."), "commands": steps}

    def create(self, way: str) -> Said:
        """Run it."""
        before, more = WAYS[way]
        settings = self.settings | more | (self.around() if way == "around" else {})
        return self.matic.create(self.matic.configured([self.top], settings), *before, env=self.server)

    def stored(self, repository: Path) -> dict[str, str]:
        """Return the paths of the newest archive and what they are."""
        newest = run("borg", "list", "--short", "--last", "1", repository, env=self.env).out.strip()
        archive = f"{repository}::{newest}"
        lines = run("borg", "list", "--format", "{path}\t{mode}\t{size}{NL}", archive, env=self.env).out.splitlines()
        found = (line.split("\t") for line in lines)
        differing = ("borgmatic/", str(self.matic.directory).removeprefix("/"))
        return {path: mode if path.startswith(differing) else f"{mode} {size}" for path, mode, size in found}


def test_four_ways_three_times_each(rig: Rig, server: Cluster) -> None:
    configured = Configured(rig.path("matic"), server)
    read: dict[str, list[set[str]]] = {}
    stored: dict[str, list[dict[str, str]]] = {}
    time.sleep(0.1)
    (configured.top / "newest").write_text("borg never trusts the newest of all")
    for way in WAYS:
        for _ in range(TIMES):
            said = configured.create(way)
            read.setdefault(way, []).append(set(letters(said, str(configured.top)[1:])))
            for repository in configured.repositories:
                stored.setdefault(way, []).append(configured.stored(repository))
    print(read)
    plain = stored["plain"][0]
    inside = str(configured.top).removeprefix("/")
    assert f"{inside}/file0" in plain
    assert f"{inside}/www/keep.tmp" in plain
    assert not [path for path in plain if path.endswith(("drop.tmp", "cache/page"))]
    assert not [path for path in plain if path.startswith(f"{inside}/postgres/")]
    assert [path for path in plain if path.startswith("borgmatic/postgresql_databases/")]
    assert all(one == plain for way in WAYS for one in stored[way])
    # borgmatic lists what borg has read: all in the first run, and none that its files cache knows in all others.
    assert {"file0", "www/page"} <= read["plain"][0]
    assert read["plain"][1] == read["plain"][2]
    assert not read["plain"][1] & {"file0", "www/page"}
    assert read["run"] == read["in-place"] == [read["plain"][1]] * TIMES
    # The view's paths are new to the files cache once, and the same ever after.
    assert read["around"] == read["plain"]
    usable(configured, rig.path("out"))


def usable(configured: Configured, into: Path) -> None:
    """Have borgmatic check, list and extract what has been saved."""
    matic = configured.matic
    config = matic.configured([configured.top], configured.settings)
    run(BORGMATIC, "--config", config, "check", "--force", env=matic.env)
    listed = json.loads(run(BORGMATIC, "--config", config, "list", "--json", env=matic.env).out)
    assert [len(repository["archives"]) for repository in listed] == [len(WAYS) * TIMES] * 2
    into.mkdir()
    words = ("extract", "--archive", "latest", "--repository", configured.repositories[0], "--destination", into)
    run(BORGMATIC, "--config", config, *words, env=matic.env)
    assert (into / str(configured.top / "www/page").removeprefix("/")).read_text() == "page"
    (dump,) = into.glob("borgmatic/postgresql_databases/*/all")
    assert "first" in dump.read_text()
