"""What the plugins for MariaDB and MySQL share: one session of the server's own client, and where its data is.

The client is a program of its own, and holds the lock: that is released when it ends, however that comes. A lock that
it still waits for then is waited for by the server until its time is over, a quarter of the deadline.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from borg_lvm.plugin_api import (
    AbsolutePath,
    Application,
    ApplicationSettings,
    BusyError,
    DataPath,
    DiscoveredApplication,
    Intent,
    Probe,
    QuiesceError,
    client_process,
    key,
    permissions,
)
from borg_lvm_hooks.applications.clients.client import Client
from borg_lvm_hooks.applications.peers import held, refuse_foreign
from borg_lvm_hooks.applications.running import servers

TIMEOUT = 30.0
WORDS = (
    "--batch",
    "--skip-column-names",
    "--raw",
    "--unbuffered",
    "--skip-reconnect",
    "--connect-timeout=20",
    "--skip-show-warnings",
    "--local-infile=0",
)
LOCK_WAIT = "ERROR 1205"
"""What the client says when the wait for a lock has come to its limit (ER_LOCK_WAIT_TIMEOUT)."""
SYSTEM = frozenset({"mysql", "performance_schema", "sys"})
"""Databases of the server's own: what they have of tables without transactions is no user's data."""
PLAIN = (".MYD", ".CSV", ".ARZ")
"""How the data files of MyISAM, CSV and ARCHIVE end: engines without transactions."""
MOST_LINKS = 10_000
LOGS = frozenset({"redo log", "Aria log", "binary log", "relay log"})
"""Those of its places that it writes before it writes its data."""


@dataclass(frozen=True)
class Options:
    """Where the server is, and who we are to it."""

    socket: str = key(AbsolutePath(), "/run/mysqld/mysqld.sock", "The server's socket.", "/run/mysqld/shop.sock")
    defaults_file: str = key(
        AbsolutePath(),
        "",
        "A file of the client's options (user and password), if root is not let in by the socket alone. It must belong "
        "to root, and nobody else may be able to read it or to change it.",
        "/etc/borg-lvm/mysql.cnf",
    )


@dataclass(frozen=True)
class Directory:
    """What a data directory shows by itself: links that lead out of it; whether a table has no transactions."""

    links: tuple[str, ...]
    plain: bool


class SqlServer(Application):
    """One server. A subclass says how this kind of server is asked, and how it is locked."""

    client: str
    """The client's program."""
    facts: str
    """The statement that returns, as one JSON object, `version`, `id` (of the session), `data`, and named places."""
    directories: Sequence[str]
    """Names of the places that are directories."""
    bases: Sequence[str] = ("binary log", "relay log")
    """Names of the places that are directories with the beginning of a file's name."""

    def __init__(self, settings: ApplicationSettings) -> None:
        self._options: Options = settings.options
        self.settings = settings
        self._stack = ExitStack()
        self._client: client_process.Child | None = None
        self.owner = 0
        # Nobody's statement, which a list of processes shows, can look like the end of an answer.
        self._mark = f"borg-lvm-{secrets.token_hex(8)}"
        self.known: Mapping[str, Any] = {}
        if self._options.defaults_file:
            permissions.refuse_readable_by_others(self._options.defaults_file)

    @property
    def locks(self) -> bool:
        """Whether this level locks anything."""
        return self.settings.level != "none"

    @abstractmethod
    def refuse_version(self, version: str) -> None:
        """Refuse a server that is too old or another one: not all of `facts` is known to it."""

    @abstractmethod
    def refuse(self) -> None:
        """Refuse a user who may not do what is needed."""

    @abstractmethod
    def locking(self) -> Sequence[str]:
        """Return the statements that lock, in their order; called when it stands before the lock."""

    @abstractmethod
    def unlocking(self) -> str:
        """Return the statements that unlock."""

    @abstractmethod
    def position(self) -> str:
        """Return what the certificate says of this instant; asked while locked."""

    def probe(self) -> Probe:
        """Connect, and ask the server where everything is."""
        self._client = self._client or self._connect()
        # So that our statements mean what they mean. A client's greeting goes with the answer.
        self.query("SET SESSION sql_mode = '';")
        self.refuse_version(self.query("SELECT VERSION();")[0])
        self.known = self._facts()
        self.refuse()
        return Probe(str(self.known["version"]), self._paths(self.known))

    def intents(self) -> Sequence[Intent]:
        """Have the watchdog end the client, and so the session that holds the lock."""
        assert self._client
        return [self._client.intent] if self.locks else []

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Hold the lock. The server gives it up by itself when it hears nothing from us for too long."""
        if not self.locks:
            yield
            return
        deadline = self.settings.deadline
        # Who waits for such a lock holds up others: for two of them, not for longer than half of the time.
        self.query(f"SET SESSION lock_wait_timeout = {max(1, int(deadline / 4))}, wait_timeout = {int(deadline) + 1};")
        for statement in self.locking():
            try:
                self.query(statement)
            except QuiesceError as error:
                if LOCK_WAIT in error.message:
                    raise BusyError(error.message) from error
                raise
        try:
            yield
        finally:
            self.query(self.unlocking())

    def confirm(self) -> str:
        """See that it is the same session, which has the lock until its end, and that all is where it was."""
        now = self._facts()
        self.refuse_change(now)
        if now["id"] != self.known["id"]:
            raise QuiesceError("the session that held the lock has been replaced by another")
        if self._paths(now) != self._paths(self.known):
            raise QuiesceError("it keeps data elsewhere since it was asked", remedy="run it again")
        return self.position() if self.locks else ""

    def refuse_change(self, now: Mapping[str, Any]) -> None:
        """Refuse what has come since it was asked and is not locked."""

    def close(self) -> None:
        """End the client."""
        self._stack.close()

    def query(self, statement: str) -> list[str]:
        """Have one statement done; returns its rows. Raises: QuiesceError with the server's words."""
        assert self._client
        self._client.say(f"{statement}\nSELECT '{self._mark}';\n")
        return self._client.lines_until(self._mark, self.settings.deadline + TIMEOUT)

    def _facts(self) -> Mapping[str, Any]:
        """Ask the server, and look at its data directory: `links` and `plain` of `Directory` are facts as well."""
        (line,) = self.query(self.facts)
        facts: dict[str, Any] = json.loads(line)
        refuse_foreign(str(facts["data"]), self.owner)
        return facts | asdict(looked(str(facts["data"])))

    def _connect(self) -> client_process.Child:
        # The very socket that was examined: root's password is for who listens there, whatever lies there later.
        peer = self._stack.enter_context(held(self._options.socket))
        self.owner = peer.owner
        own = self._options.defaults_file
        # No other file, for one in root's home would say more than this.
        place = [*([f"--defaults-file={own}"] if own else []), f"--socket={peer.place}"]
        client = Client(self.client, WORDS, "mysql", "pymysql", "PyMySQL")
        return self._stack.enter_context(client.started(*place, env={"HOME": "/root"}))

    def _paths(self, facts: Mapping[str, Any]) -> tuple[DataPath, ...]:
        data = os.path.normpath(str(facts["data"]))
        places = [(data, "data")]
        places += [(os.path.normpath(os.path.join(data, str(facts[what] or ""))), what) for what in self.directories]
        places += [(os.path.dirname(os.path.join(data, str(facts[what]))), what) for what in self.bases if facts[what]]
        tables = (os.path.normpath(os.path.join(data, path)) for path in self.elsewhere(facts))
        places += [(path, "table") for path in tables if not path.startswith(f"{data}/")]
        places += [(path, "linked table") for path in facts["links"]]
        by_path: dict[str, list[str]] = {}
        for path, what in places:
            by_path.setdefault(path, []).append(what)
        return tuple(DataPath(path, whats[0], log=LOGS.issuperset(whats)) for path, whats in by_path.items())

    @abstractmethod
    def elsewhere(self, facts: Mapping[str, Any]) -> Sequence[str]:
        """Return the files of tables that the server itself knows, in the data directory or not."""


def numbers(version: str) -> tuple[int, ...]:
    """Return a version's numbers: of `8.0.36-28`, 8, 0 and 36. Pure."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def looked(data: str) -> Directory:
    """Look at a data directory and the directories of its databases.

    The server does not show a user tables that this one has no right to; the file system shows root all.
    Raises: QuiesceError when it cannot be read.
    """
    links: set[str] = set()
    plain = False

    def count(entry: os.DirEntry[str]) -> None:
        links.update(_led(entry))
        if len(links) > MOST_LINKS:
            raise QuiesceError(f"its data directory {data} has more than {MOST_LINKS} links")

    try:
        for entry in os.scandir(data):
            count(entry)
            if entry.is_dir():
                for table in os.scandir(entry.path):
                    count(table)
                    plain = plain or (table.name.endswith(PLAIN) and entry.name not in SYSTEM)
    except OSError as error:
        raise QuiesceError(f"cannot look at its data directory {data}: {error.strerror}") from error
    top = os.path.realpath(data)
    return Directory(tuple(sorted(path for path in links if not path.startswith(f"{top}/"))), plain)


def _led(entry: os.DirEntry[str]) -> Iterator[str]:
    """Yield where a link leads, if data is there: certificates, and sockets, are none."""
    if entry.is_symlink() and (entry.is_dir() or entry.is_file()) and not entry.name.endswith(".pem"):
        yield os.path.realpath(entry.path)


def discovered(name: str, description: str, program: str) -> list[DiscoveredApplication]:
    """Return the servers of this program that listen at a socket; the X protocol's sockets are not for this client."""
    places = {path: server.data for server in servers(program) for path in server.sockets}
    return [
        DiscoveredApplication(
            f"{name} listens at {path}; {description}",
            {} if path == Options().socket else {"socket": path},
            identity=("socket",),
            data=data,
        )
        for path, data in places.items()
        if not os.path.basename(path).startswith("mysqlx")
    ]
