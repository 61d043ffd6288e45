"""Who the plugin for PostgreSQL is to the server: rights that are just enough, passwords, and services."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from borg_lvm.errors import QuiesceError
from borg_lvm.plugins.application import ApplicationSettings
from borg_lvm_hooks.applications.postgresql import backup_mode, psql
from borg_lvm_hooks.applications.postgresql import plugin as postgresql
from tests.system.support.servers.postgres import BIN, OTHERS, OWN, USER, Cluster, cluster, programs_of

pytestmark = [pytest.mark.limit(600), pytest.mark.soak, pytest.mark.needs("postgresql")]
BASE = Path("/run/borg-lvm-test-roles")
SMALL = {"shared_buffers": "1MB"}
HBA = """
local all keeper scram-sha-256
local all weak trust
local all all peer
"""
SECRET = "right: \\of course"  # both characters have to be escaped in a file of passwords


@contextmanager
def running(major: str) -> Iterator[Cluster]:
    """Give a server of this major in memory."""
    BASE.mkdir(mode=0o755)
    try:
        with ExitStack() as stack:
            programs = BIN if major == OWN else stack.enter_context(programs_of(major))
            made = Cluster(BASE / "data", BASE / "sockets", programs=programs)
            server = stack.enter_context(cluster(made, SMALL))
            (server.data / "pg_hba.conf").write_text(HBA)
            server.sql("select pg_reload_conf()")
            yield server
    finally:
        shutil.rmtree(BASE)


def probed(options: psql.Options, level: str) -> postgresql.PostgreSQL:
    """Return an application that has been asked where its data is."""
    application = postgresql.PostgreSQL(ApplicationSettings("it", level, 20.0, options))
    try:
        application.probe()
    except BaseException:
        application.close()
        raise
    return application


@pytest.mark.parametrize("major", [OWN, *OTHERS])
def test_backup_mode_takes_no_more_than_its_own_two_functions(major: str) -> None:
    with running(major) as server:
        number = int(server.sql("show server_version_num"))
        begin, end = backup_mode.functions(number)
        options = psql.Options(socket=str(server.sockets), role="weak")

        def refused(told: str) -> None:
            with pytest.raises(QuiesceError, match=told):
                probed(options, "backup-mode")

        server.sql("create role weak login; grant pg_read_all_settings to weak")
        refused("the role weak may not make a slot")
        server.sql("alter role weak replication")
        refused("the role weak may not call pg_.*backup.* and pg_.*backup")
        server.sql(f"grant execute on function {begin} to weak")
        refused("the role weak may not call pg_.*backup.* and pg_.*backup")
        server.sql(f"grant execute on function {end} to weak")
        if number >= backup_mode.NAMES_SINCE:
            _as_before_15(server)
        server.sql("create function public.pg_backup_stop(int) returns int language sql as 'select 1'")
        server.sql("revoke execute on function public.pg_backup_stop(int) from public")
        application = probed(options, "backup-mode")
        try:
            for _ in application.prepare():
                pass
            with application.quiesced():
                assert application.confirm().startswith("backup mode from ")
            assert [file.name for file in application.added()] == ["backup_label"]
        finally:
            application.close()


def _as_before_15(server: Cluster) -> None:
    """Make the function that ends the exclusive mode, as servers before version 15 have it: not for everybody."""
    server.sql(
        "set allow_system_table_mods = on; create function pg_catalog.pg_stop_backup() returns int language sql as "
        "'select 1'; revoke execute on function pg_catalog.pg_stop_backup() from public"
    )
    assert server.sql("select has_function_privilege('weak', 'pg_catalog.pg_stop_backup()', 'EXECUTE')") == "f"


@contextmanager
def at_home(**files: str) -> Iterator[Path]:
    """Have files in the home of the server's user, which they alone can read: pgpass for .pgpass."""
    user = pwd.getpwnam(USER)
    with ExitStack() as stack:
        for name, text in files.items():
            path = Path(user.pw_dir) / f".{name.replace('_conf', '.conf')}"
            assert not path.exists()
            stack.callback(path.unlink)
            path.touch(mode=0o600)
            shutil.chown(path, USER, USER)
            path.write_text(text)
        yield Path(user.pw_dir)


def test_a_password_comes_from_the_users_own_file() -> None:
    with running(OWN) as server:
        server.sql(f"create role keeper login superuser password '{SECRET}'")
        options = psql.Options(socket=str(server.sockets), role="keeper")
        line = f"{server.sockets}:5432:*:keeper:"
        right = SECRET.replace("\\", "\\\\").replace(":", "\\:")
        with pytest.raises(QuiesceError, match="no password supplied"):
            probed(options, "checkpoint")
        with at_home(pgpass=f"{line}{right}\n") as home:
            application = probed(options, "checkpoint")
            for _ in application.prepare():
                pass
            application.close()
            (home / ".pgpass").chmod(0o644)
            with pytest.raises(QuiesceError, match="no password supplied"):
                probed(options, "checkpoint")
        with at_home(pgpass=f"{line}wrong\n"):
            with pytest.raises(QuiesceError, match='password authentication failed for user "keeper"') as raised:
                probed(options, "checkpoint")
            assert SECRET not in str(raised.value)
            assert "wrong" not in str(raised.value)


def test_a_service_tells_who_we_are_and_leads_to_no_other_server() -> None:
    with running(OWN) as server:
        server.sql(f"create role keeper login superuser password '{SECRET}'")
        server.sql("create database books")
        options = psql.Options(socket=str(server.sockets), service="books")
        mine = f"user=keeper\npassword={SECRET}\ndbname=books\n"
        elsewhere = BASE / "elsewhere"
        elsewhere.symlink_to(server.sockets)
        services = {
            "books": mine,
            "same": f"{mine}host={elsewhere}\nport=5432\n",
            "other": f"{mine}host=127.0.0.1\n",
            "absent": f"{mine}port=5433\n",
        }
        with at_home(pg_service_conf="".join(f"[{name}]\n{text}" for name, text in services.items())):
            for name in ("books", "same"):
                application = probed(replace(options, service=name), "checkpoint")
                who = "select datname, usename from pg_stat_activity where application_name = 'psql' and state = 'idle'"
                assert server.sql(who) == "books|keeper"
                application.close()
            refused = {
                "unknown": 'definition of service "unknown" not found',
                "other": r"connection to server at \"127.0.0.1\", port 5432 failed",
                "absent": r"\.5433\" failed: No such file or directory",
            }
            for name, told in refused.items():
                with pytest.raises(QuiesceError, match=told):
                    probed(replace(options, service=name), "checkpoint")


def test_a_service_that_leads_to_another_server_is_refused() -> None:
    """Two directories of sockets, one server: it is known by where it listens."""
    BASE.mkdir(mode=0o755)
    try:
        made = Cluster(BASE / "data", BASE / "sockets")
        other = BASE / "others"
        other.mkdir()
        shutil.chown(other, USER, USER)
        places = {"unix_socket_directories": f"{made.sockets}, {other}", "listen_addresses": "127.0.0.1"}
        with cluster(made, SMALL | places):
            services = {"other": f"host={other}", "hidden": "hostaddr=127.0.0.1"}
            with at_home(pg_service_conf="".join(f"[{name}]\n{text}\n" for name, text in services.items())):
                for name, told in (("other", str(other)), ("hidden", "an address of a network")):
                    options = psql.Options(socket=str(made.sockets), service=name)
                    with pytest.raises(QuiesceError, match=f"the service {name} leads to {told}, port 5432, and"):
                        probed(options, "none")
                probed(psql.Options(socket=str(made.sockets)), "none").close()
    finally:
        shutil.rmtree(BASE)
