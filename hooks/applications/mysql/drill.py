"""Starts a restored server of MariaDB's or MySQL's from its data alone, and has it check all of its tables.

A restored server must not act on the world. It reads no option file, so it runs no `init_file`; it knows no account and
no plugin that somebody has installed (`--skip-grant-tables`), so no engine that reaches elsewhere (FEDERATED, CONNECT,
SPIDER) is there; no event is scheduled, no replication begins, and nobody can reach it but by its socket. What it keeps
its place by stays on: the binary log, for without it transactions that were prepared at the instant are undecided.
Sources: MariaDB server documentation, mariadbd options; MySQL reference manual, mysqld options, CHECK TABLE.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress

from borg_lvm.plugin_api import (
    SYSTEM_PATH,
    ArchiveWrongError,
    Bench,
    Judge,
    QuiesceError,
    Restored,
    Server,
    permissions,
    subprocesses,
)
from borg_lvm_hooks.applications.mysql.check_table import Checked, Table
from borg_lvm_hooks.applications.mysql.layout import Layout, Position
from borg_lvm_hooks.applications.mysql.sql_server import numbers

SWITCHED_OFF = ("--skip-networking", "--skip-grant-tables", "--event-scheduler=DISABLED", "--skip-slave-start")
"""What keeps a server from acting on the world; a test has a server that acts without."""
CLIENT = ("--no-defaults", "--batch", "--skip-column-names", "--user=root")
SYSTEM_FILES = "innodb_data_file_path"
MEMORY = ("--innodb-buffer-pool-size=128M", "--loose-innodb-buffer-pool-size-max=128M")
TAKEN = (SYSTEM_FILES, "innodb_page_size", "lower_case_table_names")
"""Options of this machine's option files that a server needs to read its own data, and that say nothing else."""
KEYS = re.compile(r"\w+_key_management|keyring\w*")
"""How plug-ins are named that have keys: MariaDB's, MySQL's."""
TABLES = """
SELECT HEX(table_schema), HEX(table_name), COALESCE(engine, ''), HEX(COALESCE(table_comment, ''))
FROM information_schema.tables
WHERE table_type NOT LIKE '%VIEW' AND table_schema NOT IN ('information_schema', 'performance_schema');
"""
BROKEN = re.compile(r"\[ERROR\]\s*(?:\[MY-\d+\]\s*)?(.*)")
NOT_COUNTED = re.compile(
    r"relay log|master info|slave|replica|should be repaired|Got an error from|thread id", re.IGNORECASE
)
"""Errors of replication, which is switched off; and of tables, whose check says by itself what is wrong."""
MOST_LINES = 10


class SqlJudge(Judge):
    """Judges one server. A subclass says which one, and what else it needs."""

    own = True
    programs: Sequence[str]
    """Names of the server, the first that is there is taken."""
    clients: Sequence[str]
    parts: Sequence[str]
    """What may lie outside of its data directory, by the names in `layout.PARTS`."""
    gtid: str
    """The query for the GTIDs that are in its binary log."""

    def __init__(self, restored: Restored) -> None:
        super().__init__(restored)
        self._server = self._client = ""
        self._taken: dict[str, str] = {}

    def refuse_program(self, version: str) -> None:
        """Refuse what is another server. Raises: QuiesceError."""

    def switches(self, layout: Layout) -> Sequence[str]:
        """Return further options for a server with this layout."""
        return ()

    def compare(self, layout: Layout, ask: Ask) -> Iterator[str]:
        """Yield what is wrong with the data beside what CHECK TABLE finds."""
        yield from ()

    def prepare(self) -> Sequence[str]:
        """Find the server and its client."""
        self._server, self._client = _installed(self.programs), _installed(self.clients)
        permissions.refuse_writable_by_others(self._server)  # before root starts it
        said = subprocesses.run([self._server, "--no-defaults", "--version"])
        version = re.search(r"Ver (\S+)", said)
        self.refuse_program(said)
        if version and numbers(version[1])[:2] < numbers(self.restored.version)[:2]:
            raise QuiesceError(
                f"the installed server is {version[1]}, older than the one that was saved, {self.restored.version}"
            )
        with suppress(subprocesses.ProgramError):
            self._taken = taken(subprocesses.run(["my_print_defaults", "--mysqld"]))
        return [os.path.realpath(path) for path in (self._server, self._client)]

    def judge(self, bench: Bench) -> None:
        """Start it, have it recover, check all tables, and compare its place in the binary log."""
        layout = Layout(self.restored)
        layout.refuse_incomplete(
            [part.partition(":")[0] for part in self._taken.get(SYSTEM_FILES, "ibdata1").split(";")]
        )
        ends = _log_ends(bench, layout)
        socket = os.path.join(bench.scratch, "sql.sock")
        ask = Ask(bench, [self._client, *CLIENT, f"--socket={socket}"])
        with bench.server([self._server, *self._options(layout, bench.scratch, socket)]) as server:
            with bench.phase("start"):
                _wait(server, ask)
                bench.right("it starts from the archive alone, and recovers")
            with bench.phase("check"):
                self._place(bench, ask, layout.position, ends=ends)  # before a table is repaired, which is logged
                self._check(bench, ask, layout)
            with bench.phase("stop"):
                status = server.stop(signal.SIGTERM)
            if status:
                bench.wrong(f"it ended with status {status}")
            for line in errors(server.said()):
                bench.wrong(f"its log: {line}")

    def _options(self, layout: Layout, scratch: str, socket: str) -> Iterator[str]:
        yield from ("--no-defaults", f"--datadir={layout.data}", f"--socket={socket}", f"--tmpdir={scratch}")
        yield from (f"--pid-file={scratch}/pid", "--server-id=1", "--max-connections=10", *SWITCHED_OFF, *MEMORY)
        yield from layout.options(self.parts)
        yield f"--log-bin={log}" if (log := layout.binary_log()) else "--skip-log-bin"
        if relay := layout.relay_log():
            yield f"--relay-log={relay}"
        yield from (f"--{name.replace('_', '-')}={value}" for name, value in self._taken.items())
        yield from self.switches(layout)

    def _check(self, bench: Bench, ask: Ask, layout: Layout) -> None:
        tables = [Table.of(line) for line in ask.rows(TABLES)]
        checked = Checked(tables, ask.rows("".join(table.statements for table in tables), "--force"))
        wrong = [*checked.wrong, *self.compare(layout, ask)]
        for text in wrong:
            bench.wrong(text)
        if not wrong:
            bench.right(f"CHECK TABLE … EXTENDED of {checked.count}{checked.remarks}")

    def _place(self, bench: Bench, ask: Ask, position: Position | None, *, ends: bool) -> None:
        """Compare its GTIDs with those of the certificate; `ends`: the binary log ends where it should."""
        if position is None:
            return
        gtids = "".join(ask.rows(self.gtid)).replace("\\n", "")
        if position.gtid and gtids != position.gtid:
            bench.wrong(f"its GTIDs are {gtids}, and not those of the run, {position.gtid}")
        elif ends:
            bench.right(f"the binary log ends where the run says: {position.name}, position {position.at}")


class Ask:
    """Asks a server by its own client."""

    def __init__(self, bench: Bench, argv: Sequence[str]) -> None:
        self._bench, self._argv = bench, argv

    def answers(self) -> bool:
        """Whether it answers."""
        with suppress(ArchiveWrongError):
            return self.rows("SELECT 1;") == ["1"]
        return False

    def rows(self, statements: str, *words: str) -> list[str]:
        """Have statements done, with further words for the client; returns the rows of all.

        Raises: ArchiveWrongError with the server's words.
        """
        try:
            return self._bench.run([*self._argv, *words], stdin=statements.encode()).splitlines()
        except subprocesses.ProgramError as error:
            raise ArchiveWrongError("it failed while it was asked", details=error.details) from error


def _wait(server: Server, ask: Ask) -> None:
    """Wait until it has recovered. Raises: ArchiveWrongError with what it calls errors, when it has ended before."""
    try:
        server.wait_until(ask.answers, "it had recovered")
    except ArchiveWrongError as error:
        raise ArchiveWrongError(error.message, details=tuple(errors(server.said())) or error.details) from error


def _installed(names: Sequence[str]) -> str:
    for name in names:
        if path := shutil.which(name, path=SYSTEM_PATH):
            return path
    raise QuiesceError(f"{' or '.join(names)} is not installed here")


def _log_ends(bench: Bench, layout: Layout) -> bool:
    """Report where the binary log ends, if not at the place of the certificate, from which what came later is replayed.

    Seen before the server starts: of a log that is missing it says no more than that it cannot be opened.
    """
    position = layout.position
    if position is None:
        return False
    try:
        length = os.path.getsize(os.path.join(os.path.dirname(layout.binary_log()), position.name))
    except OSError:
        bench.wrong(f"the archive lacks the binary log {position.name}, which the run names")
        return False
    if length != position.at:
        bench.wrong(f"the binary log {position.name} ends at {length}, and not at the run's position {position.at}")
    return length == position.at


def taken(said: str) -> dict[str, str]:
    """Return the options that are taken of a machine's option files, as my_print_defaults(1) prints them. Pure.

    Raises: QuiesceError for a server whose data may be encrypted by keys that are elsewhere.
    """
    if match := KEYS.search(said):
        raise QuiesceError(f"its data may be encrypted ({match[0]}), and its keys are not in the sandbox")
    options = (line.removeprefix("--").partition("=") for line in said.splitlines())
    named = {name.replace("-", "_"): value for name, _, value in options}
    return {name: named[name] for name in TAKEN if name in named}


def errors(said: str) -> list[str]:
    """Return what a server calls an error, once each. Pure."""
    lines = (match[1] for line in said.splitlines() if (match := BROKEN.search(line)))
    return [line for line in dict.fromkeys(lines) if not NOT_COUNTED.search(line)][:MOST_LINES]
