"""Three real servers in one run, and what may go wrong: all take writes again, and the run says what it was."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig
from tests.system.support.runs import certificates
from tests.system.support.runs.live import Programs, Run, assert_nothing_left, tidy
from tests.system.support.runs.program import Said, borg_lvm
from tests.system.support.writers.chain import Chain

pytestmark = [
    pytest.mark.limit(600),
    pytest.mark.needs("postgresql", "mariadb", "redis"),
]  # seconds; a fraction of it on an idle machine
SECRETS = Path("/run/borg-lvm-test-secrets")
DEADLINE = 8  # seconds
HELD = 1.5  # seconds
SERVERS = ("postgresql", "mariadb", "redis")
RIGHTS = {"nothing": "USAGE", "no_log": "RELOAD, PROCESS", "backup": "RELOAD, PROCESS, BINLOG MONITOR"}
HBA = "local all password scram-sha-256\nlocal all all trust\n"


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    """Give the three servers, with users who may do little."""
    with Rig() as rig, tidy(), ExitStack() as stack:
        made = Chain(rig, stack)
        SECRETS.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, SECRETS)
        made.cluster.sql("create role password login password 'right'")
        (made.cluster.data / "pg_hba.conf").write_text(HBA)
        made.cluster.sql("select pg_reload_conf()")
        for name, rights in RIGHTS.items():
            made.maria.sql(f"CREATE USER {name}@localhost IDENTIFIED BY 'right'")
            made.maria.sql(f"GRANT {rights} ON *.* TO {name}@localhost")
        made.redis.do("ACL", "SETUSER", "weak", "on", ">right", "~*", "+ping")
        yield made


@pytest.fixture
def usual(chain: Chain) -> Iterator[Chain]:
    """Give the servers; in the end each must take a write, and nothing of any run may be left."""
    with tidy():
        yield chain
        all_take_writes(chain)
        assert_nothing_left(chain.rig)


def all_take_writes(chain: Chain, *names: str) -> None:
    """Have each, or some, take a number."""
    sessions = {"postgresql": chain.postgresql, "mariadb": chain.mariadb, "redis": chain.to_redis}
    for name in names or SERVERS:
        with sessions[name]() as commit:
            begin = time.monotonic()
            commit(0)
            assert time.monotonic() - begin < 2 * DEADLINE, name  # for what resumes it has to be started


def secret(name: str, text: str) -> str:
    """Write a file that only root can read, and return its path."""
    path = SECRETS / name
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


def mariadb(chain: Chain, user: str, password: str) -> dict[str, Any]:
    file = secret("mariadb.cnf", f"[client]\nuser={user}\npassword={password}\n")
    return {"plugin": "mariadb", "options": {"socket": str(chain.maria.socket), "defaults_file": file}}


def redis(chain: Chain, password: str) -> dict[str, Any]:
    file = secret("redis", f"{password}\n")
    options = {"socket": chain.redis.socket, "user": "weak", "password_file": file}
    return {"plugin": "redis", "level": "pause", "options": options}


def postgresql(chain: Chain, password: str) -> dict[str, Any]:
    owner = pwd.getpwnam("postgres")
    file = Path(owner.pw_dir) / ".pgpass"  # the test's own: /var is a copy of the machine's
    file.touch(mode=0o600)
    file.write_text(f"*:*:*:password:{password}\n" if password else "")
    os.chown(file, owner.pw_uid, owner.pw_gid)
    return {"plugin": "postgresql", "options": {"socket": str(chain.cluster.sockets), "role": "password"}}


ENTRIES: dict[str, Callable[..., dict[str, Any]]] = {"postgresql": postgresql, "mariadb": mariadb, "redis": redis}


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        pytest.param("postgresql", [""], "no password supplied", marks=pytest.mark.soak),
        ("postgresql", ["wrong"], 'password authentication failed for user "password"'),
        ("postgresql", ["right"], "pg_read_all_settings"),
        ("mariadb", ["backup", "wrong"], "Access denied for user 'backup'@'localhost'"),
        ("mariadb", ["nothing", "right"], "privilege"),
        ("mariadb", ["no_log", "right"], "BINLOG MONITOR privilege"),
        ("redis", ["wrong"], "WRONGPASS"),
        ("redis", ["right"], "NOPERM"),
    ],
)
def test_who_is_not_let_in_is_told_why(usual: Chain, name: str, words: list[str], told: str) -> None:
    said = plan(usual, ENTRIES[name](usual, *words), status=71)
    assert told in said.err
    assert "wrong" not in said.err.replace("WRONGPASS", "")
    assert "right" not in said.err


def test_the_rights_that_the_documentation_names_are_enough(usual: Chain) -> None:
    run(usual, entry=mariadb(usual, "backup", "right")).end()


def plan(chain: Chain, entry: dict[str, Any], status: int) -> Said:
    """Have a run planned; that looks for every application."""
    paths = [word for point in chain.points for word in ("--path", str(point))]
    return borg_lvm("plan", "--config", chain.config(applications=[entry]), *paths, "--", "true", status=status)


def run(chain: Chain, programs: Programs | None = None, entry: dict[str, Any] | None = None) -> Run:
    """Start a run on all volumes."""
    settings = {"applications": [entry]} if entry else {}
    config = chain.config(deadline=DEADLINE, attempts=1, **settings)
    paths = [word for point in chain.points for word in ("--path", str(point))]
    return Run("run", "--config", config, "--snapshot-size", "16MiB", *paths, "--", "true", programs=programs)


@pytest.fixture
def held(usual: Chain) -> Iterator[tuple[Chain, Run, Callable[[], None]]]:
    """Give a run that stands still in its window with all servers and volumes, and what lets it go on."""
    programs = Programs(usual.rig.path(f"programs-{len(os.listdir(usual.rig.directory))}"))
    gate = programs.stop_window()
    live = run(usual, programs)
    gate.reached(process=live.process)
    yield usual, live, gate.open
    gate.open()


Held = tuple[Chain, Run, Callable[[], None]]


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_we_die_or_hang_in_the_window(held: Held, signum: signal.Signals) -> None:
    chain, live, go_on = held
    live.kill(signum)
    all_take_writes(chain)  # the run is dead or stopped, and the gate is shut
    go_on()
    if signum == signal.SIGSTOP:
        live.kill(signal.SIGCONT)
        said = live.end(status=71)
        assert f"longer than {DEADLINE} s" in said.err
    else:
        live.end(status=-signal.SIGKILL)
        borg_lvm("clean")


def processes_of(chain: Chain, name: str) -> list[int]:
    """Return the processes of a server; those of PostgreSQL do not depend on its first one alone."""
    if name != "postgresql":
        return [(chain.maria if name == "mariadb" else chain.redis).process.pid]
    found = [chain.postmaster]
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == chain.postmaster:
                found.append(int(path.parent.name))
    return found


def assert_told(said: Said, name: str) -> None:
    """Check that a failed run names the server that it failed by, and promises nothing of any."""
    made = certificates.read()
    assert f"{name}: " in said.err
    assert (made["result"], made["status"]) == ("failure", 71)
    assert made["error"]["message"].startswith(f"{name}: ")
    assert {one["consistency"] for one in made["applications"]} == {"none"}
    assert made["released"]["state"] == "released"


@pytest.mark.parametrize("name", [SERVERS[1], *(pytest.param(SERVERS[n], marks=pytest.mark.soak) for n in (0, 2))])
def test_a_server_is_killed_in_the_window(held: Held, name: str) -> None:
    chain, live, go_on = held
    os.kill(processes_of(chain, name)[0], signal.SIGKILL)
    go_on()
    assert_told(live.end(status=71), name)
    if name == "postgresql":
        chain.start_postgresql()
        return
    server = chain.maria if name == "mariadb" else chain.redis
    server.end()
    server.start()


@pytest.mark.parametrize("name", [SERVERS[0], *(pytest.param(name, marks=pytest.mark.soak) for name in SERVERS[1:])])
def test_a_server_hangs_in_the_window(held: Held, name: str) -> None:
    chain, live, go_on = held
    stopped = processes_of(chain, name)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        go_on()
        said = live.end(status=71)
        all_take_writes(chain, *(other for other in SERVERS if other != name))
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert_told(said, name)


def test_the_certificate_tells_what_each_has_reached(held: Held) -> None:
    chain, live, go_on = held
    time.sleep(HELD)
    go_on()
    said = live.end()
    made = certificates.read()
    (instant,) = made["instants"]
    reached = {one["name"]: (one["level"], one["consistency"]) for one in made["applications"]}
    assert reached == {
        "postgresql": ("checkpoint", "crash-consistent"),
        "mariadb": ("lock", "application"),
        "redis": ("pause", "application"),
    }
    postgresql, mariadb, redis = made["applications"]
    # They are quiesced one after the other, before the volumes are held, and resumed in the reverse order.
    still = [one["still_ms"] for one in (postgresql, mariadb, redis)]
    assert 1000 * DEADLINE > still[0] > still[1] > still[2] > instant["uncertainty_ms"] > 1000 * HELD
    name, position = chain.maria.sql("SHOW MASTER STATUS").split()[:2]
    assert mariadb["remark"].startswith(f"binary log {name}, position {position}, GTID ")
    assert mariadb["remark"] in said.err
    assert postgresql["verified"].startswith("pg_control with its checksum, WAL from ")
    assert {one["why"] for one in made["applications"]} == {None}
