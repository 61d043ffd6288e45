"""A PostgreSQL cluster on volumes of the rig: three of them, with hot writers, and a judge of its copies."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.live import wait_for
from tests.system.program import Said, run

BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "env", "LC_ALL=C", "PAGER=cat")
# Small buffers that are written out at once: with a roomy cache a torn copy would look whole.
SETTINGS = """
listen_addresses = ''
shared_buffers = 1MB
bgwriter_delay = 10ms
bgwriter_flush_after = 64kB
backend_flush_after = 64kB
min_wal_size = 4MB
max_wal_size = 32MB
checkpoint_timeout = 1h
max_connections = 20
full_page_writes = on
"""
HBA = "local all weak trust\nlocal all all peer\n"
SUMS = (
    "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)"
    " AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history)"
    " AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history),"
    " (SELECT count(*) FROM pgbench_history)"
)


def as_postgres(*argv: str | Path, status: int | None = 0) -> Said:
    """Run a program as the cluster's owner."""
    return run(*AS_POSTGRES, *argv, status=status)


@dataclass
class Cluster:
    """A cluster: its data, its WAL and a tablespace may lie anywhere."""

    data: Path
    wal: Path
    space: Path
    socket: Path
    port: int = 5432

    def make(self) -> None:
        """Make it, and start it."""
        postgres = pwd.getpwnam("postgres")
        for path in (self.data, self.wal, self.space, self.socket):
            path.mkdir(exist_ok=True)
            os.chown(path, postgres.pw_uid, postgres.pw_gid)
            path.chmod(0o700 if path != self.socket else 0o755)
        options = ["--no-sync", "--wal-segsize=1", "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"]
        as_postgres(BIN / "initdb", *options, "-D", self.data, "-X", self.wal)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"{SETTINGS}unix_socket_directories = '{self.socket}'\nport = {self.port}\n")
        (self.data / "pg_hba.conf").write_text(HBA)
        self.start()
        self.sql("CREATE EXTENSION amcheck")
        self.sql(f"CREATE TABLESPACE far LOCATION '{self.space}'")
        self.sql("CREATE ROLE weak LOGIN")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        patient = ["--silent", "--wait", "-t", "240"]
        as_postgres(BIN / "pg_ctl", "start", *patient, "-D", self.data, "-l", self.socket / "log")

    def stop(self) -> None:
        """Stop it, in whatever state it is."""
        as_postgres(BIN / "pg_ctl", "stop", "--silent", "--wait", "-m", "immediate", "-D", self.data, status=None)

    def sql(self, statement: str) -> str:
        """Have one statement done and return its answer."""
        argv: list[str | Path] = [BIN / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        argv += ["-h", self.socket, "-p", str(self.port), "-c", statement, "postgres"]
        return as_postgres(*argv).out.strip()

    def history(self) -> int:
        """Return how many transactions of pgbench's are there."""
        return int(self.sql("SELECT count(*) FROM pgbench_history"))

    @contextmanager
    def busy(self, clients: int = 4) -> Iterator[None]:
        """Have pgbench write for the length of the block."""
        as_postgres(*self._pgbench(), "-i", "-q", "-s", "2", "--tablespace=far", "--index-tablespace=far", "postgres")
        argv = [*AS_POSTGRES, *self._pgbench(), "-n", "-c", str(clients), "-T", "3600", "postgres"]
        writer = subprocess.Popen([str(word) for word in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: self.history() > 100, "pgbench's first transactions")
            yield
        finally:
            writer.kill()
            writer.wait()

    def _pgbench(self) -> list[str | Path]:
        return [BIN / "pgbench", "-h", self.socket, "-p", str(self.port)]


def judged(cluster: Cluster, places: Sequence[tuple[Path, Path]]) -> tuple[list[str], int]:
    """Start a copy of the cluster, whose parts lie elsewhere (copy, original), and judge it.

    In a mount namespace of its own, over the original paths: a copy that follows its links finds no live file.
    Returns what is wrong with it, and how many transactions it holds.
    """
    folder = Path(tempfile.mkdtemp(prefix="judge-", dir="/run"))
    os.chown(folder, *(pwd.getpwnam("postgres")[2:4]))
    binds = "\n".join(f"mount --bind {copy} {original}" for copy, original in places)
    sql = f"{BIN}/psql -X -q -A -t -v ON_ERROR_STOP=1 -h {folder} -p {cluster.port} postgres"
    options = f"-c unix_socket_directories={folder} -c shared_buffers=32MB"
    script = f"""
set -e
{binds}
rm -f {cluster.data}/postmaster.pid
as="{" ".join(AS_POSTGRES)}"
$as {BIN}/pg_ctl start --silent --wait -t 240 -D {cluster.data} -l {folder}/log -o "{options}" || exit 3
$as {sql} -c "{SUMS}" >{folder}/sums 2>&1 || echo "sums" >>{folder}/wrong
check="{BIN}/pg_amcheck --heapallindexed -h {folder} -p {cluster.port} postgres"
$as $check >{folder}/amcheck 2>&1 || echo amcheck >>{folder}/wrong
$as {BIN}/pg_ctl stop --silent --wait -t 240 -m fast -D {cluster.data}
$as {BIN}/pg_checksums --check -D {cluster.data} >{folder}/checksums 2>&1 || echo checksums >>{folder}/wrong
"""
    said = run("unshare", "--mount", "sh", "-c", script, status=None)
    log = (folder / "log").read_text() if (folder / "log").exists() else ""
    if said.status:
        return [f"it does not start: {said.err}{log[-2000:]}"], 0
    wrong = (folder / "wrong").read_text().split() if (folder / "wrong").exists() else []
    found = [f"{name}: {(folder / name).read_text()[-600:]}" for name in wrong]
    found += [line for line in log.splitlines() if "PANIC" in line or " FATAL:  " in line]
    equal, _, count = (folder / "sums").read_text().strip().partition("|")
    if equal != "t":
        found.append(f"the sums differ: {equal} {count}")
    return found, int(count or 0) if count.isdigit() else 0


def settle() -> None:
    """Give the writers a moment."""
    time.sleep(1.0)
