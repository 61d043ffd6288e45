"""Judges a restored PostgreSQL cluster: it starts and recovers, its tables, indexes and pages are checked, it stops."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.plugin_api import ArchiveWrongError, Bench, Judge, QuiesceError, Server, permissions, subprocesses
from borg_lvm_hooks.applications.postgresql import drill_settings

PLACES = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/usr/local/pgsql/bin", "/usr/bin")
"""Where the programs of a major version lie: as Debian has them, and PostgreSQL's own packages for Red Hat; others."""
STANDBY = ("standby.signal", "recovery.signal")
"""What would have it follow another server, or fetch WAL by a command."""
MOST = 10
"""How many faults are named of what a program finds."""
INSTALLS_SINCE, AMCHECK_SINCE = 15, 14
"""The majors since which pg_amcheck installs its functions, and exists."""
FAULT = re.compile(r"error|warning|^heap table|^btree index", re.IGNORECASE)
"""What names a fault in what pg_amcheck, pg_checksums and pg_dumpall write; the rest is how far they were."""
OLDEST = 12
"""Earlier majors take what they recover by from a file of its own (recovery.conf)."""
FIRST = "SELECT rolname FROM pg_authid WHERE oid = 10 AND rolcanlogin"
"""The superuser that made the cluster has this number in each (BOOTSTRAP_SUPERUSERID, pg_authid.dat)."""
COUNT = "SELECT count(*) FROM pg_database WHERE datallowconn"


class PostgreSQLJudge(Judge):
    """One cluster, started by programs of its own major version."""

    own = True

    def prepare(self) -> Sequence[str]:
        """Need the programs of the version that wrote the data; no other one reads it.

        A server that was built by hand is its own user's, often: here, as root, it is not even asked for its version.
        """
        self._find(permissions.refuse_writable_by_others)
        return ()

    def _find(self, judge: Callable[[str], object] = lambda program: None) -> tuple[int, str]:
        """Return the major version, and where its programs are, as far as the server is no fault to a `judge` of paths.

        Raises: QuiesceError, or what the judge raises.
        """
        match = re.match(r"(\d+)", self.restored.version)
        major = int(match[1]) if match else 0
        if major < OLDEST:
            raise QuiesceError(f"PostgreSQL {self.restored.version} is older than what can be judged ({OLDEST})")
        for place in (pattern.format(major) for pattern in PLACES):
            program = os.path.join(place, "postgres")
            if os.access(program, os.X_OK):
                judge(program)
                said = subprocesses.run([program, "--version"])
                if re.search(rf"\(PostgreSQL\) {major}\b", said):
                    return major, place
        raise QuiesceError(
            f"the programs of PostgreSQL {major} are not installed here, and no others read its data",
            remedy=f"apt-get install postgresql-{major}",
        )

    def judge(self, bench: Bench) -> None:
        """Start it with settings of ours, check what is in it, stop it, and check its pages."""
        major, programs = self._find()
        data = self.restored.paths[0]
        control = self._control(bench, programs, data)
        argv = self.command(major, programs, control, bench.scratch)
        with self._started(bench, argv, "start") as server:
            role = self._role(bench, programs)
            if role:
                self._check(bench, server, major, programs, role)
            else:
                _stop(server)
        if not role:
            role = _first_superuser(bench, argv)
            with self._started(bench, argv, "start again") as server:
                self._check(bench, server, major, programs, role)
        if drill_settings.has_checksums(control):
            with bench.phase("checksums"):
                _check_pages(bench, programs, data)

    def command(self, major: int, programs: str, control: str, scratch: str) -> list[str]:
        """Return the command line of the server; its configuration is written to `scratch`.

        What was restored is left such that the server recovers by what is in it, and becomes nobody's standby.
        """
        data = self.restored.paths[0]
        for name in ("postmaster.pid", *STANDBY):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(data, name))
        with open(os.path.join(data, "postgresql.auto.conf"), "w", encoding="ascii"):
            pass  # what ALTER SYSTEM has set counts more than a configuration
        slots = len(os.listdir(os.path.join(data, "pg_replslot")))
        files = {
            "postgresql.conf": drill_settings.as_file(drill_settings.settings(major, control, slots, scratch)),
            "pg_hba.conf": "local all all trust\n",
            "pg_ident.conf": "",
        }
        for name, text in files.items():
            with open(os.path.join(scratch, name), "w", encoding="ascii") as file:
                file.write(text)
        named = {"config_file": "postgresql.conf", "hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf"}
        words = [word for key, name in named.items() for word in ("-c", f"{key}={os.path.join(scratch, name)}")]
        return [os.path.join(programs, "postgres"), "-D", data, *words]

    def _control(self, bench: Bench, programs: str, data: str) -> str:
        try:
            return bench.run([os.path.join(programs, "pg_controldata"), "-D", data])
        except subprocesses.ProgramError as error:
            raise ArchiveWrongError("pg_controldata cannot read its control file", details=error.details) from error

    def _is_up(self, bench: Bench, programs: str) -> bool:
        """Whether it takes connections: its recovery is over then."""
        try:
            bench.run([os.path.join(programs, "pg_isready"), "-q", "-h", bench.scratch])
        except subprocesses.ProgramError:
            return False
        return True

    @contextmanager
    def _started(self, bench: Bench, argv: Sequence[str], phase: str) -> Iterator[Server]:
        """Have the server run, which takes connections. Raises: ArchiveWrongError."""
        with bench.server(argv) as server:
            with bench.phase(phase):
                server.wait_until(lambda: self._is_up(bench, os.path.dirname(argv[0])), "it took connections")
            yield server

    def _check(self, bench: Bench, server: Server, major: int, programs: str, role: str) -> None:
        """Check what is in it, and stop it."""
        with bench.phase("check"):
            _check(bench, major, programs, _client(bench.scratch, role))
        with bench.phase("stop"):
            _stop(server)

    def _role(self, bench: Bench, programs: str) -> str:
        """Return the name of a superuser, usually that of the cluster's owner; empty if it is none of those known."""
        for role in dict.fromkeys(filter(None, ("postgres", self.restored.options.role))):
            with suppress(subprocesses.ProgramError):
                if _ask(bench, programs, _client(bench.scratch, role), "SHOW is_superuser") == "on":
                    return str(role)
        return ""


def _first_superuser(bench: Bench, argv: Sequence[str]) -> str:
    """Ask a server that does not run, as none but its owner can, for the superuser that made the cluster.

    Raises: QuiesceError, ProgramError. Source: PostgreSQL documentation, postgres, "Options for Single-User Mode".
    """
    said = bench.run([argv[0], "--single", *argv[1:], "postgres"], stdin=f"{FIRST}\n".encode())
    match = re.search(r'rolname = "([^"\n]+)"', said)
    if not match:
        raise QuiesceError("it starts, but has no superuser to look at its tables with")
    return match[1]


def _client(socket: str, role: str) -> dict[str, str]:
    """Return the environment of a client: what a database or role sets for its sessions does not count."""
    options = "-c search_path=pg_catalog -c session_preload_libraries= -c local_preload_libraries="
    return {"PGHOST": socket, "PGUSER": role, "PGDATABASE": "postgres", "PGOPTIONS": options}


def _ask(bench: Bench, programs: str, env: Mapping[str, str], query: str) -> str:
    return bench.run([os.path.join(programs, "psql"), "-XAtq", "-c", query], env=env).strip()


def _check(bench: Bench, major: int, programs: str, env: Mapping[str, str]) -> None:
    """Have all tables and indexes checked, or at least all tables read."""
    count = _ask(bench, programs, env, COUNT)
    several = f"{count} database{'s' * (count != '1')}"
    program = os.path.join(programs, "pg_amcheck")
    if major >= AMCHECK_SINCE and os.access(program, os.X_OK):
        install = ["--install-missing"] if major >= INSTALLS_SINCE else []
        argv, what = [program, "--all", "--heapallindexed", *install], "pg_amcheck --heapallindexed"
    else:
        argv = [os.path.join(programs, "pg_dumpall"), "--file=/dev/null"]
        what = "all tables read by pg_dumpall (not their indexes: pg_amcheck is not installed)"
    _judged(bench, argv, env, f"{what}: {several}")


def _check_pages(bench: Bench, programs: str, data: str) -> None:
    """Have the checksums of all pages checked, which the server must not run for."""
    program = os.path.join(programs, "pg_checksums")
    if os.access(program, os.X_OK):
        _judged(bench, [program, "--check", "-D", data], {}, "pg_checksums --check")


def _judged(bench: Bench, argv: Sequence[str], env: Mapping[str, str], what: str) -> None:
    """Run a program that finds faults: by its status, and by what it says then."""
    try:
        bench.run(argv, env=env)
    except subprocesses.ProgramError as error:
        if not error.returncode:
            raise
        name, said = os.path.basename(argv[0]), f"{error.stdout}\n{error.stderr}".splitlines()
        lines = [line.strip().removeprefix(f"{name}: ") for line in said if line.strip()]
        faults = [line for line in lines if FAULT.search(line)] or [f"it failed with status {error.returncode}", *lines]
        for line in dict.fromkeys(faults[:MOST]):
            bench.wrong(f"{name}: {line}")
        return
    bench.right(what)


def _stop(server: Server) -> None:
    """Have it shut down in order. Raises: ArchiveWrongError."""
    status = server.stop(signal.SIGINT)  # PostgreSQL's "fast shutdown"
    if status:
        raise ArchiveWrongError(
            f"the server did not shut down in order: it ended with status {status}",
            details=tuple(server.said().splitlines()[-MOST:]),
        )
