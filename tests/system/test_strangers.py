"""Strangers' processes are not believed: attacks of an unprivileged user on what root does for his server's sake.

Each attack succeeded once. It goes on for `ROUNDS` rounds where it is a race.
"""

from __future__ import annotations

import json
import os
import pwd
import resource
import shutil
import sqlite3
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from borg_lvm.errors import BorgLvmError, QuiesceError
from borg_lvm.plugins.application import Application, ApplicationSettings
from borg_lvm.quiesce import timeouts
from borg_lvm_hooks.applications.clients import client
from borg_lvm_hooks.applications.mysql import mariadb, sql_server
from borg_lvm_hooks.applications.postgresql import plugin as postgresql
from borg_lvm_hooks.applications.postgresql import psql
from borg_lvm_hooks.applications.redis import plugin as redis
from borg_lvm_hooks.applications.sqlite import plugin as sqlite
from tests.rig import Rig
from tests.system.support.attacks.started import unanswered
from tests.system.support.runs.live import installed, wait_for
from tests.system.support.runs.program import BIN, borg_lvm
from tests.system.support.servers.kept import BASE as KEPT
from tests.system.support.servers.kept import Server

pytestmark = pytest.mark.limit(600)
ROUNDS = int(os.environ.get("BORG_LVM_RUNS", "2"))
STRANGER = Path(__file__).parent / "support/attacks/stranger.py"
USER = pwd.getpwnam("nobody")
BASE = Path("/run/borg-lvm-test-strangers")
SECRET = "secret-of-root"
MUCH = 96 << 20
"""More memory than any answer may take."""
DATA = 48 << 20
"""How many bytes of data a client may have here: a guest takes half a minute to fill what it may have otherwise."""
SOON = 10.0
"""For how many seconds an answer is waited for here, a third of what it usually is: in that time the client is full."""
CLIENTS = DATA + (44 << 20)
"""More than a client may have, with its program."""


class Stranger:
    """The attacker's directory, and his processes."""

    def __init__(self) -> None:
        self.home = BASE / "home"
        self.script = BASE / "stranger.py"
        self.log = self.home / "log"
        self._processes: list[subprocess.Popen[bytes]] = []
        BASE.mkdir(mode=0o755)
        self.home.mkdir(mode=0o755)
        shutil.copy(STRANGER, self.script)
        self.own(self.home)

    def own(self, *paths: Path) -> None:
        """Give him files."""
        for path in paths:
            os.chown(path, USER.pw_uid, USER.pw_gid, follow_symlinks=False)

    def run(self, kind: str, *places: str | Path, ready: str = "listens") -> None:
        """Start a process of his, and wait until it has begun."""
        become = ["setpriv", "--reuid=nobody", f"--regid={USER.pw_gid}", "--clear-groups"]
        argv = [*become, "/usr/bin/python3", "-I", self.script, kind, self.log, *places]
        self._processes.append(subprocess.Popen(argv, cwd="/"))
        wait_for(lambda: ready in self.heard(), "the stranger")

    def heard(self) -> str:
        """Return what his processes have written down."""
        with suppress(FileNotFoundError):
            return self.log.read_text()
        return ""

    def end(self) -> None:
        """End his processes."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()
        self.log.unlink(missing_ok=True)


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    one = Stranger()
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(BASE)


@contextmanager
def root_has(name: str, text: str) -> Iterator[None]:
    """Have root keep a password in a file of its home."""
    path = Path("/root", name)
    path.write_text(text)
    path.chmod(0o600)
    try:
        yield
    finally:
        path.unlink()


@pytest.fixture
def my_cnf() -> Iterator[None]:
    with root_has(".my.cnf", f"[client]\npassword={SECRET}\n"):
        yield


def probed(application: Application, seconds: float = 60.0) -> str:
    """Have an application look where its data is; return why it refused."""
    try:
        with timeouts.at_most(seconds):
            application.probe()
    except BorgLvmError as error:
        return " ".join([error.message, *error.details])
    except timeouts.OutOfTime:
        return "out of time"
    finally:
        application.close()
    return ""


def apart(work: Callable[[], object]) -> tuple[int, str]:
    """Do something in a process of its own; return by how many bytes it has grown there, and why it refused."""
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
            why = ""
            try:
                with timeouts.at_most(40.0):
                    work()
            except (Exception, timeouts.OutOfTime) as error:
                why = f"{type(error).__name__}: {error}"
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            theirs = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            grown = max(grown, theirs if theirs << 10 > CLIENTS else 0)
            os.write(tell, json.dumps([grown << 10, why]).encode())
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(hear, "rb") as pipe:
        grown, why = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return grown, why


def test_check_does_not_log_in_to_what_calls_itself_a_server(rig: Rig, stranger: Stranger, my_cnf: None) -> None:
    rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
    stranger.run("mysql", stranger.home / "mysqld.sock")
    stranger.run("silent", *(stranger.home / f"{number}.sock" for number in range(4)))
    begin = time.monotonic()
    said = borg_lvm("check", "--json", "--path", rig.path("data"))
    took = time.monotonic() - begin
    assert SECRET not in stranger.heard(), stranger.heard()
    assert "connected" not in stranger.heard(), stranger.heard()
    assert took < 60  # each of them had 15 s
    assert json.loads(said.out)["works"] is True
    for words in (["hooks", "mariadb"], ["discover"]):
        borg_lvm(*words)
    assert "connected" not in stranger.heard(), stranger.heard()


@pytest.mark.usefixtures("fuse", "stranger")
def test_discovery_waits_for_no_file_of_a_stranger(tmp_path: Path) -> None:
    """It was seen to wait for ever, and so was `check`, by which each backup begins."""
    machine, gate, nothing = BASE / "qemu-system-none", BASE / "gate", tmp_path / "nothing.yaml"
    shutil.copy("/usr/bin/sleep", machine)
    nothing.write_text("")
    with unanswered(gate, "exec", machine):
        gate.touch()
        asked = subprocess.Popen([BIN / "borg-lvm", "discover", "--config", nothing], stderr=subprocess.PIPE)
        try:
            wait_for(lambda: asked.poll() is not None, "the end of the discovery", seconds=120)
            assert asked.stderr
            assert asked.wait() == 0
            said = b"borg-lvm: nothing runs here that an installed plugin finds (files of SQLite are not looked for)\n"
            assert asked.stderr.read() == said
        finally:
            asked.kill()


@pytest.mark.usefixtures("fuse", "stranger")
def test_check_does_not_wait_for_where_a_stranger_works(rig: Rig) -> None:
    """Nor by the name of a directory that nobody gets an answer about: no signal ends who waits for that."""
    rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
    server, gate, place = BASE / "redis-server", BASE / "gate", BASE / "place"
    shutil.copy("/usr/bin/sleep", server)
    place.mkdir()
    with unanswered(gate, "work", server, place):
        gate.touch()
        try:
            asked = subprocess.Popen([BIN / "borg-lvm", "check", "--json", "--path", rig.path("data")], stdout=-1)
            wait_for(lambda: asked.poll() is not None, "the end of the check", seconds=120)
            assert asked.stdout
            assert json.load(asked.stdout)["works"] is True
        finally:
            gate.unlink()
            asked.kill()
            subprocess.run(["umount", "--lazy", place], check=True)


def test_discovery_is_not_spoiled_by_a_name(stranger: Stranger, tmp_path: Path) -> None:
    """The table of unix sockets has names as they are: one with a line break is two lines."""
    server = Server(tmp_path / "redis")
    try:
        stranger.run("forge", stranger.home)
        said = borg_lvm("hooks", "redis")
        assert f"redis-server listens at {server.socket}" in " ".join(said.out.split())
    finally:
        server.end()
        shutil.rmtree(KEPT)


def test_a_socket_where_everybody_may_put_one_gets_no_password(stranger: Stranger, my_cnf: None) -> None:
    open_to_all = BASE / "tmp"
    open_to_all.mkdir()
    open_to_all.chmod(0o1777)
    stranger.run("mysql", open_to_all / "mysql.sock")
    options = sql_server.Options(socket=str(open_to_all / "mysql.sock"))
    why = probed(mariadb.MariaDB(ApplicationSettings("it", "none", 10.0, options)))
    assert SECRET not in stranger.heard(), stranger.heard()
    assert f"lies in {open_to_all}, where everybody can put links and files" in why


def test_a_port_that_somebody_else_has_taken_gets_no_password(stranger: Stranger) -> None:
    secret = BASE / "password"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o600)
    stranger.run("redis", "16379", f"dir={stranger.home}")
    application = redis.Redis(
        ApplicationSettings("it", "save", 10.0, redis.Options(port=16379, password_file=str(secret)))
    )
    why = probed(application)
    assert SECRET not in stranger.heard(), stranger.heard()
    assert "nobody" in why


def test_a_socket_that_is_swapped_for_roots_gets_no_password_of_roots(stranger: Stranger) -> None:
    place, other = stranger.home / ".s.PGSQL.5432", stranger.home / "other"
    roots = Server(BASE / "redis")  # any socket of root's at which somebody listens
    try:
        with root_has(".pgpass", f"*:*:*:*:{SECRET}\n"):
            stranger.run("postgresql", place)
            other.symlink_to(roots.socket)
            stranger.own(other)
            stranger.run("swap", place, other, ready="swaps")
            options = psql.Options(socket=str(stranger.home))
            for _ in range(3 * ROUNDS):
                probed(postgresql.PostgreSQL(ApplicationSettings("it", "none", 10.0, options)), 10.0)
                assert SECRET not in stranger.heard(), stranger.heard()
    finally:
        roots.end()
        shutil.rmtree(KEPT)


def hot_journal(database: Path, victim: Path) -> bytes:
    """Return a journal that a crash might have left: it names a super-journal, which SQLite removes afterwards."""
    pages = database.stat().st_size // 4096
    magic = bytes.fromhex("d9d505f920a163d7")
    header = (magic + struct.pack(">5I", 0, 1, pages, 512, 4096)).ljust(512, b"\0")
    name = str(victim).encode()
    return header + struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">2I", len(name), sum(name)) + magic


@pytest.mark.parametrize("way", ["swapped", "linked"])
def test_no_journal_of_a_strangers_makes_root_delete_a_file(stranger: Stranger, way: str) -> None:
    victim = BASE / "victim"
    database, other = stranger.home / "app.db", stranger.home / "other"
    with closing(sqlite3.connect(stranger.home / "new.db")) as new:
        new.execute("CREATE TABLE words (word)")
    whole = (stranger.home / "new.db").read_bytes()
    (BASE / "roots.db").write_bytes(whole)
    (BASE / "roots.db").chmod(0o600)
    for turn in range(4 * ROUNDS):
        stranger.end()
        for path in stranger.home.iterdir():
            path.unlink()
        victim.write_text("precious")
        victim.chmod(0o600)
        database.write_bytes(whole)
        journal = stranger.home / "app.db-journal"
        journal.write_bytes(hot_journal(database, victim))
        other.symlink_to(BASE / "roots.db")
        stranger.own(database, journal, other)
        if way == "swapped":
            stranger.run("swap", database, other, ready="swaps")
        else:
            database.rename(stranger.home / "aside")
            other.rename(database)
        why = probed(sqlite.SQLite(ApplicationSettings("it", "lock", 5.0, sqlite.Options((str(database),)))), 20.0)
        assert victim.exists(), f"root's file is gone in round {turn}"
        assert way == "swapped" or "belongs to" in why, why


def reading(directory: Path, seconds: float = 30.0) -> Application:
    """Return an application for a server of the stranger's."""
    return redis.Redis(
        ApplicationSettings("it", "save", 2 * seconds, redis.Options(socket=str(directory / "redis.sock")))
    )


@pytest.mark.parametrize("what", ["/dev/zero", "a pipe", "root's file"])
def test_a_copy_is_not_read_through_a_strangers_link(stranger: Stranger, what: str) -> None:
    parts = stranger.home / "parts"
    parts.mkdir()
    manifest = parts / "file.manifest"
    if what == "a pipe":
        os.mkfifo(manifest)
    elif what == "/dev/zero":
        manifest.symlink_to(what)
    else:
        (BASE / "roots").write_text('file "precious" seq 1 type b\n')
        (BASE / "roots").chmod(0o600)
        manifest.symlink_to(BASE / "roots")
    settings = ["appendonly=yes", "appenddirname=parts", "appendfilename=file", "dbfilename=dump.rdb"]
    stranger.run("redis", stranger.home / "redis.sock", f"dir={stranger.home}", *settings)

    def look() -> None:
        application = reading(stranger.home)
        application.probe()
        application.close()
        application.verify("/nowhere")

    begin = time.monotonic()
    grown, why = apart(look)
    assert grown < MUCH, f"it grew by {grown} bytes"
    assert time.monotonic() - begin < 15, why
    assert why.startswith("QuiesceError"), why
    assert "precious" not in why, why


def test_no_program_looks_at_a_copy_as_root_for_a_stranger(stranger: Stranger) -> None:
    told = BASE / "told"
    told.write_text("")
    told.chmod(0o666)
    dump, other = stranger.home / "dump.rdb", stranger.home / "other"
    dump.write_bytes(b"REDIS0010" + b"\xff" + bytes(8))
    (BASE / "roots.rdb").write_bytes(b"REDIS0010" + b"\xff" + bytes(8))
    other.symlink_to(BASE / "roots.rdb")
    stranger.own(dump, other)
    checker = BASE / "redis-check-rdb"
    checker.write_text(f"#!/bin/sh\nid -u >>{told}\n")
    checker.chmod(0o755)
    stranger.run("redis", stranger.home / "redis.sock", f"dir={stranger.home}", "appendonly=no", "dbfilename=dump.rdb")
    application = reading(stranger.home)
    application.probe()
    application.close()
    with installed(checker):
        stranger.run("swap", dump, other, ready="swaps")
        for _ in range(10 * ROUNDS):
            with suppress(QuiesceError):
                application.verify("/nowhere")
    assert set(told.read_text().split()) <= {str(USER.pw_uid)}


@pytest.mark.parametrize("kind", ["flood", "rows"])
def test_an_answer_without_end_ends_soon(stranger: Stranger, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notices, or rows: those the client keeps until it has all, or no room; then it waits for their end."""
    monkeypatch.setattr(client, "MEMORY", DATA)
    monkeypatch.setattr(psql, "CONNECT_TIMEOUT", SOON)
    stranger.run(kind, stranger.home / ".s.PGSQL.5432")
    options = psql.Options(socket=str(stranger.home))

    def look() -> None:
        with closing(postgresql.PostgreSQL(ApplicationSettings("it", "none", 10.0, options))) as application:
            application.probe()

    grown, why = apart(look)
    assert grown < MUCH, f"it grew by {grown} bytes"
    assert why.startswith(("QuiesceError", "BusyError")), why


def test_an_endless_answer_ends_soon(stranger: Stranger) -> None:
    """Of a server that announces a text of any length, and sends it."""
    endless = stranger.home / "redis.sock"
    stranger.run("endless", endless)
    grown, why = apart(lambda: reading(stranger.home).probe())
    assert grown < MUCH, f"it grew by {grown} bytes"
    assert why.startswith("QuiesceError"), why
