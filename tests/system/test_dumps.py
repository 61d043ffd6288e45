"""What borgmatic adds to a backup stays as it was: dumps through pipes, its manifest, its configuration, its log."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.matic import BORGMATIC, Borgmatic
from tests.system.support.runs.gate import BORG_LVM
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import run

pytestmark = [pytest.mark.limit(600), pytest.mark.needs("sqlite")]  # seconds; a fraction of it on an idle machine

RUN = (BORG_LVM, "run", "--")
IN_PLACE = {"local_path": "borg-lvm-borg"}
SHOP = "shop/shop.sqlite"


@pytest.fixture
def top(rig: Rig) -> Iterator[Path]:
    """Give a volume, with a file and a database that is in use and has more in its log than in its file."""
    with tidy():
        at = rig.volume("data", fs="ext4", at=rig.path("data")).at
        assert at
        (at / "file").write_text("text")
        (at / "shop").mkdir()
        database = sqlite3.connect(at / SHOP)
        database.execute("pragma journal_mode=wal")
        database.execute("create table goods (name)")
        database.execute("insert into goods values ('first')")
        database.commit()
        os.sync()
        yield at
        database.close()
    assert_nothing_left(rig)


def everything_below(top: Path, **more: object) -> tuple[Borgmatic, Path]:
    """Return a borgmatic that keeps all that is its own below the source, and its configuration.

    Its runtime directory with the pipes, its repository, home, log and configuration: nothing is out of the way.
    """
    matic = Borgmatic.made(top / "backup")
    dumped: dict[str, object] = {"sqlite_databases": [{"name": "shop", "path": str(top / SHOP)}]}
    log: dict[str, object] = {"log_file": str(top / "backup/log/borgmatic.log"), "log_file_verbosity": 1}
    (top / "backup/log").mkdir()
    return matic, matic.configured([top], dumped | log | more)


def assert_all_is_there(matic: Borgmatic, config: Path, top: Path) -> None:
    files = matic.files("config")
    inside = str(top).removeprefix("/")
    assert files[f"{inside}/file"] == "text"
    (dump,) = (
        text for path, text in files.items() if path.startswith("borgmatic/sqlite_databases/") and "shop" in path
    )
    assert "INSERT INTO goods VALUES('first');" in dump
    manifest = json.loads(files["borgmatic/bootstrap/manifest.json"])
    assert manifest["config_paths"] == [str(config)]
    assert json.loads(files[str(config).removeprefix("/")])["source_directories"] == [str(top)]
    log = (top / "backup/log/borgmatic.log").read_text()
    assert "Successfully ran configuration file" in log
    assert list((top / "backup/runtime").iterdir()) == [], "borgmatic has taken away its own"


def assert_bootstraps(matic: Borgmatic, config: Path, top: Path) -> None:
    """Check that borgmatic finds its configuration in the archive, with nothing but the repository."""
    into = top / "restored"
    into.mkdir()
    words = ("config", "bootstrap", "--repository", matic.borg.repository, "--destination", into)
    run(BORGMATIC, *words, env=matic.env)
    assert (into / str(config).removeprefix("/")).read_text() == config.read_text()


def test_in_a_run(rig: Rig, top: Path) -> None:
    matic, config = everything_below(top)
    said = matic.create(config, BORG_LVM, "run", "--live", top / "shop", "--")
    assert "sqlite_databases are dumped live" in said.err
    assert_all_is_there(matic, config, top)


def test_a_frozen_file_is_not_dumped(rig: Rig, top: Path) -> None:
    """SQLite cannot make the files beside a database that nobody has open: its dump is empty, and its status 0."""
    with closing(sqlite3.connect(top / "idle.sqlite")) as database:
        database.executescript("pragma journal_mode=wal; create table goods (name); insert into goods values ('x')")
    assert not (top / "idle.sqlite-wal").exists()
    matic = Borgmatic.made(rig.path("backup"))
    config = matic.configured([top], {"sqlite_databases": [{"name": "idle", "path": str(top / "idle.sqlite")}]})
    said = matic.create(config, *RUN, status=None)
    dumps = [text for name in matic.archives() for text in matic.borg.contents(name).values() if "goods" in text]
    assert (said.status, dumps) == (69, []), said
    assert f"{top}/idle.sqlite: borgmatic's sqlite_databases dump it" in said.err
    assert f"--live {top}" in said.err


@pytest.mark.soak
def test_in_place_of_borg(rig: Rig, top: Path) -> None:
    matic, config = everything_below(top, **IN_PLACE)
    matic.create(config)
    assert_all_is_there(matic, config, top)
    assert_bootstraps(matic, config, top)


@pytest.mark.soak
def test_a_refusal_does_not_hang_with_a_dump_under_way(rig: Rig, top: Path) -> None:
    """Who dumps waits for somebody to read its pipe; when borg-lvm refuses to run borg, nobody ever does."""
    matic, _ = everything_below(top)
    elsewhere = rig.path("not on lvm")
    elsewhere.mkdir()
    dumped: dict[str, object] = {"sqlite_databases": [{"name": "shop", "path": str(top / SHOP)}]}
    begin = time.monotonic()
    said = matic.create(matic.configured([elsewhere], dumped | IN_PLACE), status=1)
    assert "cannot freeze every source path" in said.out + said.err
    assert time.monotonic() - begin < 120
    assert matic.archives() == []
