"""SQLite: the plugin keeps the contract on real databases."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from borg_lvm.errors import AbsentError, QuiesceError
from borg_lvm.plugins.application import Application, ApplicationSettings
from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.applications.sqlite import plugin as sqlite

pytestmark = pytest.mark.process


class Databases(Subject):
    """Two databases, one with a write-ahead log."""

    def __init__(self, directory: Path) -> None:
        self.paths = [directory / "a%20?.db", directory / "b.db"]
        for path, mode in zip(self.paths, ("wal", "delete"), strict=True):
            with closing(sqlite3.connect(path)) as database:
                database.execute(f"PRAGMA journal_mode = {mode}")
                database.execute("CREATE TABLE words (word)")

    def make(self, deadline: float) -> Application:
        options = sqlite.Options(tuple(map(str, self.paths)))
        return sqlite.SQLite(ApplicationSettings("it", "lock", deadline, options))

    def write(self, seconds: float) -> bool:
        # The last one: it is locked last.
        with closing(sqlite3.connect(self.paths[-1], timeout=seconds)) as database:
            try:
                with database:
                    database.execute("INSERT INTO words VALUES ('word')")
            except sqlite3.OperationalError:
                return False
            return True

    def keeps(self) -> Sequence[str]:
        return [str(path) for path in self.paths]

    @contextmanager
    def gone(self) -> Iterator[None]:
        hidden = self.paths[-1].with_suffix(".hidden")
        self.paths[-1].rename(hidden)
        try:
            yield
        finally:
            hidden.rename(self.paths[-1])

    @contextmanager
    def busy(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.paths[-1], isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def damaged(self) -> Iterator[None]:
        with damaged(self.paths[0]):
            yield

    def lose(self) -> bool:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            words = words_of(path)
            if b"sqlite/hold.py" in words and str(self.paths[-1]).encode() in words:
                os.kill(int(path.parent.name), signal.SIGKILL)
                # Its command line goes first, its locks later, and only then can it be seen to be dead.
                while b") Z " not in (words_of(path.with_name("stat")) or b") Z "):
                    time.sleep(0.01)
        return True


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Have another database's page in a database."""
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\x0d" + b"\xff" * 4095)
    try:
        yield
    finally:
        path.write_bytes(whole)


def words_of(path: Path) -> bytes:
    """Return what is told of a process, such as its command line: nothing, if it has ended meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


class TestContract(ApplicationContract):
    """The plugin keeps the contract."""

    deadline = 2.0

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        return Databases(tmp_path)


def looked_at(directory: Path, *paths: Path, deadline: float = 20.0) -> str:
    options = sqlite.Options(tuple(map(str, paths)))
    application = sqlite.SQLite(ApplicationSettings("it", "lock", deadline, options))
    application.probe()
    application.close()
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    return application.verify(str(scratch))


def test_a_copy_is_looked_at_with_what_is_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as database:  # as long as it is open, all that is new is in the log
        database.execute("PRAGMA journal_mode = wal")
        database.execute("CREATE TABLE words (word)")
        with database:
            database.executemany("INSERT INTO words VALUES (?)", [("word" * 100,)] * 1000)
        log = path.with_name("a.db-wal")
        before = [
            (one.stat().st_size, one.stat().st_mtime_ns) for one in (path, log)
        ]  # reading them would end its locks
        assert log.stat().st_size > 400_000
        assert looked_at(tmp_path, path) == "quick_check of 1 of 1 databases, the headers of all"
        assert [(one.stat().st_size, one.stat().st_mtime_ns) for one in (path, log)] == before
    monkeypatch.setattr(sqlite, "ROOM", 1000)
    assert looked_at(tmp_path, path).startswith("quick_check of 0 of 1 ")


def test_a_wrong_copy_is_told(tmp_path: Path) -> None:
    subject = Databases(tmp_path)
    with (
        damaged(subject.paths[0]),
        pytest.raises(QuiesceError, match=r"the snapshot is wrong: .*a%20.*(malformed|Tree)"),
    ):
        looked_at(tmp_path, *subject.paths)


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_text("Dear Sir or Madam,\n" * 100)
    application = sqlite.SQLite(ApplicationSettings("it", "lock", 5.0, sqlite.Options((str(path),))))
    with pytest.raises(QuiesceError, match="file is not a database"):
        application.probe()
    application.close()
    missing = sqlite.SQLite(ApplicationSettings("it", "lock", 5.0, sqlite.Options((str(tmp_path / "none"),))))
    with pytest.raises(AbsentError, match="there is no database"):
        missing.probe()
    assert not (tmp_path / "none").exists()
