"""A MariaDB or MySQL server for a test: new, over three directories, with tables of all engines; its copies' judge.

A copy that starts, and whose tables are found to be whole, may still be of no known place in the binary log. So the
live server's log is replayed onto it, from the position that the run has told: then both must be the same.
"""

from __future__ import annotations

import functools
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.system.support.runs import for_this_guest
from tests.system.support.runs.live import listens, unmarked, wait_for
from tests.system.support.runs.program import Said, run

BASE = Path("/run/borg-lvm-test-mariadb")
SMALL = ("--innodb-buffer-pool-size=24M", "--max-connections=20", "--server-id=1", "--skip-networking")
# Pages are written at once: only so one is newer than a redo log of some seconds ago.
HOT = ("--innodb-max-dirty-pages-pct=0", "--innodb-max-dirty-pages-pct-lwm=0", "--innodb-io-capacity=2000")
ACCOUNTS = """
CREATE DATABASE shop; CREATE DATABASE books; USE shop;
CREATE TABLE shop.accounts (id INT PRIMARY KEY, amount INT) ENGINE=InnoDB;
INSERT INTO shop.accounts WITH RECURSIVE seq AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM seq WHERE n < 100)
  SELECT n, 1000 FROM seq;
CREATE TABLE books.accounts (id INT PRIMARY KEY, amount INT) ENGINE=InnoDB;
INSERT INTO books.accounts SELECT * FROM shop.accounts;
"""
PLAIN = "CREATE TABLE {name} (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(200), KEY (word)) ENGINE={engine};\n"
TRANSFER = """SET @from = 1 + FLOOR(RAND() * 100), @to = 1 + FLOOR(RAND() * 100);
BEGIN;
UPDATE shop.accounts SET amount = amount - 7 WHERE id = @from;
UPDATE books.accounts SET amount = amount + 7 WHERE id = @to;
COMMIT;
"""
SUM = "SELECT (SELECT SUM(amount) FROM shop.accounts) + (SELECT SUM(amount) FROM books.accounts)"
OTHERS = "SELECT COUNT(*) FROM information_schema.processlist WHERE db IS NOT NULL AND id <> CONNECTION_ID()"


@dataclass(frozen=True)
class Brand:
    """A kind of server: its programs, its options, tables without transactions by their engines, and how its GTIDs are
    asked for.
    """

    server: str | Path
    client: str | Path
    binlog: str | Path
    options: Sequence[str]
    gtid: str
    plain: Mapping[str, str]

    @property
    def tables(self) -> str:
        """Return what makes the tables."""
        return ACCOUNTS + "".join(PLAIN.format(name=name, engine=engine) for name, engine in self.plain.items())

    @property
    def transfer(self) -> str:
        """Return what a client does again and again."""
        return TRANSFER + "".join(f"INSERT INTO {name} (word) VALUES (REPEAT(UUID(), 5));\n" for name in self.plain)

    @property
    def all(self) -> str:
        """Return the names of all tables."""
        return ", ".join(["shop.accounts", "books.accounts", *(f"shop.{name}" for name in self.plain)])

    @property
    def state(self) -> str:
        """Return what asks for all that must be the same on two servers: tables, and how far the binary log is."""
        return f"CHECKSUM TABLE {self.all} EXTENDED; SELECT 'GTID', {self.gtid}"


MARIADB = Brand(
    "mariadbd",
    "mariadb",
    "mariadb-binlog",
    # Newer ones reserve addresses, more than a small machine has.
    ["--innodb-log-file-size=8M", "--loose-innodb-buffer-pool-size-max=64M"],
    "@@gtid_binlog_pos",
    {"isam": "MyISAM", "aria": "Aria TRANSACTIONAL=0"},
)


class ServerError(Exception):
    """A copy did not start."""


@dataclass(frozen=True)
class Position:
    """A place in the binary log, as a run tells it."""

    log: str
    at: int

    @classmethod
    def told(cls, said: Said) -> Position:
        """Read it from a run's last lines."""
        found = re.search(r"; binary log (\S+), position (\d+), GTID \S+", said.err)
        assert found, said
        return cls(found[1], int(found[2]))


class Server:
    """A real server: its places, for its data, its redo log and its binary log, may lie anywhere.

    `tables` makes other tables than the brand's; `more` are options of its command line that come last, and so say more
    than ours.
    """

    def __init__(
        self,
        places: Sequence[Path],
        tables: str | None = None,
        brand: Brand = MARIADB,
        name: str = "live",
        more: Sequence[str] = (),
    ) -> None:
        BASE.mkdir(mode=0o755, exist_ok=True)
        self.places = places
        self.brand = brand
        self.more = list(more)
        self.socket = BASE / f"{name}.sock"
        mysql = pwd.getpwnam("mysql")
        for path in (BASE, *self.places):
            path.mkdir(exist_ok=True)
            os.chown(path, mysql.pw_uid, mysql.pw_gid)
        self.install()
        self.start()
        self.sql(brand.tables if tables is None else tables, database="")

    def install(self) -> None:
        """Make the server's own tables: a copy of those that are made but once, because that takes its time."""
        data, redo, _ = self.places
        run("cp", "-a", f"{own_tables(tuple(self.brand.options))}/.", data)
        run("mv", data / "ib_logfile0", redo)

    def argv(self, socket: Path) -> list[str | Path]:
        """Return the command line of the server."""
        data, redo, binlog = self.places
        own = [f"--datadir={data}", f"--innodb-log-group-home-dir={redo}", f"--log-bin={binlog}/log"]
        own += [f"--socket={socket}", f"--pid-file={socket}.pid", f"--log-error={socket}.log"]
        return [self.brand.server, "--no-defaults", "--user=mysql", *own, *SMALL, *HOT, *self.brand.options, *self.more]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(self.argv(self.socket), stderr=subprocess.DEVNULL, env=unmarked())
        wait_for(lambda: _answers(self.socket, self.brand), "the server")

    def sql(self, statement: str, database: str = "shop", status: int | None = 0) -> str:
        """Have statements done."""
        return query(self.socket, statement, database, status, self.brand).out.strip()

    def end(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    @contextmanager
    def told_again_and_again(self, statements: str) -> Iterator[None]:
        """Have a client do the same again and again for the length of the block, in which it must not end."""
        argv = client(self.socket, "shop", self.brand)
        writer = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        feeder = subprocess.Popen(["yes", statements], stdout=writer.stdin)
        try:
            yield
            assert writer.poll() is None
        finally:
            for process in (feeder, writer):
                process.kill()
                process.wait()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Have a client write for the length of the block; after it nothing is under way any more."""
        count = f"SELECT COUNT(*) FROM {next(iter(self.brand.plain))}"
        with self.told_again_and_again(self.brand.transfer):
            before = int(self.sql(count))
            wait_for(lambda: int(self.sql(count)) > before + 20, "the first writes")
            yield
        wait_for(lambda: self.sql(OTHERS, database="") == "0", "the end of the writer's session")

    @contextmanager
    def copy(self, copies: Sequence[Path], more: Sequence[str] = ()) -> Iterator[Path]:
        """Run a copy of it over the original paths, in a mount namespace of its own; gives the copy's socket.

        `more` are options of the copy alone.
        Errors: ServerError with the end of its log.
        """
        socket = BASE / "copy.sock"
        binds = [f"mount --bind {copy} {place}" for copy, place in zip(copies, self.places, strict=True)]
        shell = ["unshare", "--mount", "sh", "-ec", "\n".join([*binds, 'exec "$@"']), "sh"]
        process = subprocess.Popen([*shell, *self.argv(socket), *more], stderr=subprocess.DEVNULL, env=unmarked())
        try:
            wait_for(lambda: process.poll() is not None or _answers(socket, self.brand), "the copy", 300)
            if process.returncode is not None:
                raise ServerError(Path(f"{socket}.log").read_text()[-2000:])
            yield socket
        finally:
            process.kill()
            process.wait()
            for path in BASE.glob("copy.*"):
                path.unlink()

    def since(self, position: Position) -> str:
        """Return what a client must be given to do all that the server has done since then."""
        # Beside them lie indices of GTIDs, log.000001.idx, since MariaDB 11.4.
        logs = sorted(path for path in self.places[2].glob("log.*[0-9]") if path.name >= position.log)
        return run(self.brand.binlog, "--no-defaults", f"--start-position={position.at}", *logs).out

    def later(self, position: Position, count: int) -> Position:
        """Return the position after so many more transactions: a wrong one."""
        places = re.findall(r"^# at (\d+)\n#.*\tGTID\s", self.since(position), re.MULTILINE)
        assert int(places[0]) == position.at
        return replace(position, at=int(places[count]))


@functools.cache
def own_tables(options: Sequence[str]) -> Path:
    """Return the directory of a MariaDB server that has never run."""
    directory = for_this_guest.directory("mariadb")
    words = ["--no-defaults", "--user=mysql", f"--datadir={directory}", "--skip-test-db"]
    run("mariadb-install-db", *words, *SMALL, *options)
    return directory


def client(socket: Path, database: str, brand: Brand = MARIADB) -> list[str | Path]:
    """Return the command line of a client."""
    own: list[str | Path] = [brand.client, "--no-defaults", "--batch", "--skip-column-names", f"--socket={socket}"]
    return [*own, *([database] if database else [])]


def query(socket: Path, statement: str, database: str, status: int | None = 0, brand: Brand = MARIADB) -> Said:
    """Have statements done."""
    return run(*client(socket, database, brand), status=status, stdin=statement)


def _answers(socket: Path, brand: Brand) -> bool:
    return listens(socket) and query(socket, "SELECT 1", database="", status=None, brand=brand).status == 0


def judged(
    server: Server, copies: Sequence[Path], position: Position | None = None, more: Sequence[str] = ()
) -> list[str]:
    """Start a copy, with more options if there are any, and return what is wrong with it.

    With a position, the live server's binary log is replayed onto it from there, and both compared. So long nothing
    may be written to the live server.
    """
    brand = server.brand
    try:
        with server.copy(copies, more) as socket:
            checked = query(socket, f"CHECK TABLE {brand.all} EXTENDED", "", brand=brand).out.splitlines()
            found = [line for line in checked if not line.endswith("\tOK")]
            if query(socket, SUM, "", brand=brand).out.strip() != "200000":
                found.append("the sum of all accounts is wrong")
            if position and not found:
                found += _replayed(server, socket, position)
            log = Path(f"{socket}.log").read_text().splitlines()
            return found + [line for line in log if "[ERROR]" in line or "in the future" in line]
    except ServerError as error:
        return ["it does not start", str(error)]


def _replayed(server: Server, socket: Path, position: Position) -> list[str]:
    done = query(socket, server.since(position), "", status=None, brand=server.brand)
    if done.status:
        return [f"the replay failed: {done.err}"]
    states = [
        query(place, server.brand.state, "", brand=server.brand).out.splitlines() for place in (server.socket, socket)
    ]
    return [f"live {live}, copy {copy}" for live, copy in zip(*states, strict=True) if live != copy]
