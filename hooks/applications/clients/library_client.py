"""A client for servers whose own client is not installed: a program of its own, which uses a client library.

It is run by its path in an isolated interpreter (`client.py`). Like psql and mariadb it reads statements from its
input, each up to a line that ends with a semicolon, and writes their rows; it ends at the first error, or with its
input, and its session with it.
"""

import argparse
import configparser
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

SERVICES = "/etc/postgresql-common"
"""Where Debian's psql looks for pg_service.conf; a libpq that comes with the library would look elsewhere."""


class Target(NamedTuple):
    """Where to connect, and as which user of the operating system (`UID:GID`), as far as it is given."""

    user: str | None
    socket: str | None
    defaults_file: str | None


Do = Callable[[str], Iterator[str]]
"""Has a statement done; yields its rows as lines."""


@contextmanager
def postgresql(target: Target) -> Iterator[Do]:
    """Connect by psycopg, whose connections are libpq's: where to, the environment's PG… say, and ~/.pgpass counts."""
    os.environ.setdefault("PGSYSCONFDIR", SERVICES)
    import psycopg
    from psycopg import sql

    become(target.user)

    def do(statement: str) -> Iterator[str]:
        place = {":'HOST'": connection.info.host, ":'PORT'": str(connection.info.port)}
        for variable, value in place.items():  # psql's own, which say where it has come to
            statement = statement.replace(variable, sql.quote(value))
        result = connection.execute(statement.encode()).pgresult
        for row in range(result.ntuples if result else 0):
            assert result
            values = [result.get_value(row, column) for column in range(result.nfields)]
            yield "|".join("" if value is None else value.decode() for value in values)

    try:
        with psycopg.connect(autocommit=True) as connection:
            yield do
    except psycopg.Error as error:
        fail(str(error))


@contextmanager
def mysql(target: Target) -> Iterator[Do]:
    """Connect by PyMySQL. Nothing is converted: rows are what the server sends."""
    import pymysql
    from pymysql.constants import CLIENT

    def do(statement: str) -> Iterator[str]:
        with server.cursor() as cursor:
            cursor.execute(statement)
            more: bool | None = True
            while more:
                for row in cursor.fetchall():
                    yield "\t".join("NULL" if value is None else str(value) for value in row)
                more = cursor.nextset()

    given = target.defaults_file or os.path.expanduser("~/.my.cnf")
    try:
        with pymysql.connect(
            unix_socket=target.socket,
            read_default_file=given if os.path.exists(given) else None,
            read_default_group="client",
            client_flag=CLIENT.MULTI_STATEMENTS,
            conv={},
            autocommit=True,
            connect_timeout=20,
            ssl_disabled=True,  # a socket needs none, and no certificate is of its name
        ) as server:
            yield do
    except configparser.Error:  # its words may have a password in them
        fail(f"{given} is not a file of options: it must begin with [client], and have nothing but options")
    except pymysql.Error as error:
        code, *words = error.args or ("?",)
        fail(f"{code}: {' '.join(map(str, words))}")


KINDS = {"postgresql": postgresql, "mysql": mysql}


def become(user: str | None) -> None:
    """Go on as another user, `UID:GID`, for good: all that root had to read is read."""
    if user:
        uid, gid = map(int, user.split(":"))
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def fail(words: str) -> None:
    """End, and say why on one line."""
    sys.exit(f"ERROR {' '.join(words.split())}")


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(prog="client")
    parser.add_argument("kind", choices=KINDS)
    for name in ("user", "socket", "defaults-file"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    with KINDS[options.kind](Target(options.user, options.socket, options.defaults_file)) as do:
        statement = ""
        for line in sys.stdin:
            if line.startswith("\\echo "):  # psql's
                print(line.removeprefix("\\echo ").strip(), flush=True)
                continue
            statement += line
            if line.rstrip().endswith(";"):
                for row in do(statement):
                    print(row, flush=True)
                statement = ""


if __name__ == "__main__":
    main()
