"""The plugin for PostgreSQL: a hot server over three volumes comes whole out of the archive; what is wrong is told."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from borg_lvm.errors import QuiesceError
from borg_lvm.linux.subprocesses import Account
from borg_lvm.plugins.application import Application, ApplicationSettings
from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.applications.postgresql import plugin as postgresql
from borg_lvm_hooks.applications.postgresql import psql, verify
from tests.rig import Rig
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.live import Programs, Run, assert_nothing_left, away, hidden, script, tidy
from tests.system.support.runs.program import Said, borg_lvm, run
from tests.system.support.servers.postgres import OTHERS, USER, Cluster, cluster, owned, programs_of
from tests.system.support.servers.served import THICK, Kinds, Served, served, volumes
from tests.system.support.writers.bank import HOT, Bank

pytestmark = [pytest.mark.limit(1500), pytest.mark.needs("postgresql")]
RUNS = int(os.environ.get("BORG_LVM_RUNS", "1"))
JUDGED = int(os.environ.get("BORG_LVM_JUDGED", "1"))
TOO_SHORT = "WAL ends before end of online backup|could not locate required checkpoint|could not find redo location"
PAUSE = 2.0  # seconds that are put before each snapshot where they are taken one after the other
CONFIG = Path("/run/borg-lvm-test-postgresql.yaml")
HBA = "local all weak trust\nlocal all all peer\n"
"""Who may come in without a password: the server's own user, and a role that has no rights."""


class Switched:
    """A server over three directories that a test starts and stops as it likes."""

    def __init__(self, cluster: Cluster, wal: Path, space: Path, settings: Mapping[str, str]) -> None:
        self.cluster = cluster
        self.wal = wal
        self.space = space
        self._settings = settings
        self._stack = ExitStack()

    def make(self) -> None:
        """Make it, and start it."""
        owned(self.cluster.sockets)
        self.cluster.initdb(self.wal)
        (self.cluster.data / "pg_hba.conf").write_text(HBA)
        self.start()
        self.cluster.tablespace("far", self.space)
        self.cluster.sql("create role weak login")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._stack.enter_context(self.cluster.running(self._settings))

    def stop(self) -> None:
        """Stop it, if it runs."""
        self._stack.close()


def configured(*entries: Mapping[str, Any]) -> Path:
    """Write a configuration with these applications; not below a directory that is open to everybody."""
    common = {"deadline": 60, "command_timeout": 300, "snapshot": {"size": "80%ORIGIN"}}
    CONFIG.write_text(yaml.safe_dump({**common, "applications": [dict(entry) for entry in entries]}))
    return CONFIG


def entry_for(cluster: Cluster) -> dict[str, Any]:
    """Return the application's entry in the configuration."""
    return {"plugin": "postgresql", "options": {"socket": str(cluster.sockets)}}


@pytest.mark.soak
def test_a_cluster_over_three_volumes_comes_back_whole(rig: Rig) -> None:
    with tidy():
        with served(rig, THICK, HOT, checksums=True) as server:
            config = configured(entry_for(server.cluster))
            for turn in range(RUNS):
                assert_comes_back_whole(server, turn)
            words: list[str | Path] = ["plan", "--config", config, "--", "borg", "create", "x::y", *server.volumes]
            shown = borg_lvm(*words).out
            for volume, what in (("data", "data"), ("log", "WAL"), ("tables", "tablespace")):
                assert any(f" {what} " in line and line.endswith(f"/{volume}") for line in shown.splitlines()), shown
        assert_nothing_left(rig)


@pytest.mark.soak
@pytest.mark.parametrize("kinds", [THICK, ("thick", "thin", "thin")], ids=str)
def test_backup_mode_is_for_volumes_that_are_taken_one_after_the_other(rig: Rig, kinds: Kinds) -> None:
    """The log of changes would be the first of them: that such a copy is found corrupt, test_postgres.py shows."""
    programs = Programs(rig.path("programs"))
    programs.delay("lvm", PAUSE)
    with tidy():
        with served(rig, kinds, HOT, checksums=True) as server:
            data = server.cluster.data
            config = configured({**entry_for(server.cluster), "level": "backup-mode"})
            for turn in range(JUDGED):
                verdict, said = server.copied(
                    turn, "--config", config, "--consistency", "per-volume", programs=programs
                )
                assert "postgresql: quiesced (backup-mode) for " in said.err
                assert ", backup_label, WAL from " in said.err
                assert verdict.is_clean, verdict
            assert not (data / "backup_label").exists()
            assert server.cluster.sql("select count(*) from pg_replication_slots") == "0"
            verdict = server.judged(0, partial(cut_short, data))
            assert re.search(TOO_SHORT, verdict.refused), verdict
            (data / "backup_label").write_text("left from a restore")
            words: list[str | Path] = ["--config", config, "--consistency", "per-volume", *server.paths, "--", "true"]
            said = borg_lvm("run", *words, status=71)
            assert f"needs a backup_label, and {data}/backup_label is there" in said.err
            (data / "backup_label").unlink()
        assert_nothing_left(rig)


def cut_short(data: Path, directory: Path) -> None:
    """Leave but the first WAL file that the label of an extracted copy tells of: as if the log were saved first."""
    copy = directory / data.relative_to("/")
    begin = re.search(r"file (\w+)", (copy / "backup_label").read_text())
    assert begin
    log = directory / os.readlink(copy / "pg_wal")[1:]
    for file in log.iterdir():
        if file.is_file() and file.name > begin[1]:
            file.unlink()


@pytest.mark.soak
@pytest.mark.parametrize("major", OTHERS)
def test_a_cluster_of_another_major_comes_back_whole(rig: Rig, major: str) -> None:
    with tidy():
        with programs_of(major) as programs, served(rig, THICK, HOT, checksums=True, programs=programs) as server:
            configured(entry_for(server.cluster))
            assert server.cluster.sql("show server_version").startswith(f"{major}.")
            assert_comes_back_whole(server, 0)
        assert_nothing_left(rig)


@pytest.mark.soak
def test_a_standby_comes_back_whole_and_is_kept_from_backup_mode(rig: Rig) -> None:
    """Its copy starts as a server of its own when its standby.signal is removed."""
    log, tables, data = volumes(rig, THICK)
    first = Cluster(rig.path("first"), rig.path("sockets-first"))
    with tidy(), cluster(first, HOT):
        space = rig.path("first-tables")
        bank = Bank(first, rig.directory, space)
        where: list[str | Path] = ["-D", data / "data", f"--waldir={log / 'log'}", "-T", f"{space}={tables / 'tables'}"]
        for directory in (log, tables, data):
            shutil.chown(directory, USER, USER)
        first.run("pg_basebackup", *where, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast")
        standby = Cluster(data / "data", rig.path("sockets"))
        owned(standby.sockets)
        with standby.running(HOT), bank.busy():
            server = Served(standby, bank, (log, tables, data), Borg.made(rig.path("borg")), rig)
            config = configured(entry_for(standby))
            create = ["borg", "create", server.borg.archive("0"), *map(str, server.volumes)]
            said = borg_lvm("run", "--config", config, "--", *create, env=server.borg.env)
            assert "verified in the snapshot: pg_control with its checksum, WAL from " in said.err
            assert standby.sql("select pg_is_in_recovery()") == "t"
            config = configured({**entry_for(standby), "level": "backup-mode"})
            words: list[str | Path] = ["--config", config, "--consistency", "per-volume", *server.paths, "--", "true"]
            said = borg_lvm("run", *words, status=71)
            assert "it is a standby" in said.err
        verdict = server.judged(0, lambda directory: (directory / str(data / "data")[1:] / "standby.signal").unlink())
        assert verdict.is_clean, verdict
        assert verdict.counted
        assert_nothing_left(rig)


def assert_comes_back_whole(server: Served, number: int) -> None:
    """Check that a copy is whole, and that the plugin has had its part in it."""
    verdict, said = server.copied(number, "--config", CONFIG)
    assert "postgresql: quiesced (checkpoint) for " in said.err
    assert "verified in the snapshot: pg_control with its checksum, WAL from " in said.err
    assert verdict.is_clean, verdict


class Stage:
    """A server over three volumes, a repository, and the configuration for both."""

    def __init__(self, rig: Rig) -> None:
        wal, space, data = volumes(rig, THICK)
        self.parts = [data / "pg", wal / "pg", space / "pg"]
        self.server = Switched(Cluster(self.parts[0], rig.path("sockets")), self.parts[1], self.parts[2], HOT)
        self.borg = Borg.made(rig.path("borg"))
        self.entry = entry_for(self.server.cluster)

    def backup(self, archive: str, *options: str, status: int = 0, parts: list[Path] | None = None) -> Said:
        """Have borg-lvm run borg."""
        words: list[str | Path] = ["borg", "create", self.borg.archive(archive), *(parts or self.parts)]
        config = configured(self.entry)
        return borg_lvm("run", "--config", config, *options, "--", *words, status=status, env=self.borg.env)


@contextmanager
def staged(rig: Rig) -> Iterator[Stage]:
    """Give a stage whose server runs."""
    stage = Stage(rig)
    with tidy():
        try:
            stage.server.make()
            yield stage
        finally:
            stage.server.stop()


@pytest.mark.soak
def test_what_is_wrong_is_told(rig: Rig) -> None:
    with staged(rig) as stage:
        said = stage.backup("a", status=69, parts=stage.parts[:2])
        assert f"{stage.parts[2]} (tablespace): it lies on " in said.err
        said = stage.backup("a", "--consistency", "per-volume", status=69)
        assert "must be of one instant" in said.err
        stage.entry["level"] = "backup-mode"
        said = stage.backup("a", status=69)
        assert "its level backup-mode is for volumes of several instants" in said.err
        del stage.entry["level"]
        stage.entry["options"]["role"] = "weak"
        said = stage.backup("a", status=71)
        assert "pg_read_all_settings" in said.err
        stage.server.cluster.sql("GRANT pg_read_all_settings TO weak")
        said = stage.backup("a", status=71)
        assert "the role weak may not do a checkpoint" in said.err
        stage.server.cluster.sql("GRANT pg_checkpoint TO weak")
        said = stage.backup("weak")
        assert "postgresql: quiesced (checkpoint) for " in said.err
        stage.entry["options"]["role"] = "nobody"
        said = stage.backup("a", status=71)
        assert "Peer authentication failed" in said.err
        del stage.entry["options"]["role"]
        stage.entry["prepare_timeout"] = 5
        pid = int((stage.server.cluster.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)
        try:
            said = stage.backup("a", status=71)
            assert "took longer than 5 s" in said.err
        finally:
            os.kill(pid, signal.SIGCONT)
        stage.server.stop()
        said = stage.backup("a", status=71)
        assert "no server listens at " in said.err
        stage.entry["on_failure"] = "skip-if-absent"
        said = stage.backup("a")
        assert "postgresql: not quiesced: " in said.err
        assert_nothing_left(rig)


@pytest.mark.soak
def test_a_cluster_that_comes_up_before_the_snapshots_is_not_saved_without_a_label(rig: Rig) -> None:
    with staged(rig) as stage:
        stage.entry |= {"level": "backup-mode", "on_failure": "skip-if-absent"}
        stage.server.stop()
        for comes, status in ((False, 0), (True, 71)):
            programs = Programs(rig.path(f"programs-{comes}"))
            gate = programs.stop_shell("before", r"lvcreate\ *")
            create = ["borg", "create", stage.borg.archive(str(comes)), *map(str, stage.parts)]
            words: list[str | Path] = [
                "--config",
                configured(stage.entry),
                "--consistency",
                "per-volume",
                "--",
                *create,
            ]
            live = Run("run", *words, programs=programs, env=stage.borg.env)
            gate.reached(process=live.process)
            if comes:
                stage.server.start()
            gate.open()
            said = live.end(status)
            assert ("postgresql: it was not there when the run began, and is there now" in said.err) == comes
            assert ("postgresql: not quiesced: " in said.err) != comes
        assert_nothing_left(rig)


@pytest.mark.soak
def test_backup_mode_needs_a_volume_for_the_log_alone(rig: Rig) -> None:
    with staged(rig) as stage:
        stage.entry["level"] = "backup-mode"
        other = stage.parts[1].parent / "other"
        other.mkdir()
        options = {"quiesce": ["/bin/true"], "resume": ["/bin/true"], "paths": [str(other)]}
        config = configured(stage.entry, {"plugin": "scripts", "name": "other", "options": options})
        words: list[str | Path] = ["--consistency", "per-volume", "--", "true", *stage.parts, other]
        paths = [word for part in (*stage.parts, other) for word in ("--path", str(part))]
        said = borg_lvm("run", "--config", config, *paths, *words, status=69)
        assert "its WAL (" in said.err
        assert "must lie on a volume of its own" in said.err
        assert_nothing_left(rig)


class ClusterSubject(Subject):
    """A cluster, for the contract."""

    stops_writers = False
    level = "checkpoint"

    def __init__(self, server: Switched) -> None:
        self.server = server
        self.server.cluster.sql("create table if not exists words (word text)")

    def make(self, deadline: float) -> Application:
        options = psql.Options(socket=str(self.server.cluster.sockets))
        return postgresql.PostgreSQL(ApplicationSettings("it", self.level, deadline, options))

    def write(self, seconds: float) -> bool:
        self.server.cluster.sql(f"SET statement_timeout = '{seconds:g}s'; INSERT INTO words VALUES ('word')")
        return True

    def keeps(self) -> list[str]:
        return [str(path) for path in (self.server.cluster.data, self.server.wal, self.server.space)]

    def gone(self) -> AbstractContextManager[None]:
        return away(self.server.stop, self.server.start)

    @contextmanager
    def damaged(self) -> Iterator[None]:
        self.server.stop()
        try:
            yield  # as if the copy were of a server that does not run
        finally:
            self.server.start()

    def lose(self) -> bool:
        self.server.stop()
        self.server.start()
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[Switched]:
    """Give a server in memory."""
    base = Path("/run/borg-lvm-test-cluster")
    base.mkdir(mode=0o755, exist_ok=True)
    made = Switched(Cluster(base / "data", base / "sockets"), base / "wal", base / "space", {"shared_buffers": "1MB"})
    try:
        made.make()
        yield made
    finally:
        made.stop()
        shutil.rmtree(base)


class Copied:
    """The directory of a running cluster, copied, and what a run knows of the server."""

    def __init__(self, server: Switched, to: Path) -> None:
        self.cluster = server.cluster
        self.data = to
        self.system = self.told("SELECT system_identifier FROM pg_control_system()")
        self.server = server

    def told(self, statement: str) -> str:
        return self.cluster.sql(statement)

    def make(self) -> None:
        """Make the copy anew, after a checkpoint; its WAL is a copy too."""
        self.cluster.sql("checkpoint")
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self.cluster.data, self.data)
        run("chown", "-R", "postgres:", self.data)
        self.begin = self.told("SELECT redo_lsn FROM pg_control_checkpoint()")

    @property
    def control(self) -> Path:
        return self.data / "global" / "pg_control"

    def damage(self, place: int) -> None:
        """Change a byte of its control file."""
        whole = bytearray(self.control.read_bytes())
        whole[place] ^= 1
        self.control.write_bytes(whole)

    def look(self) -> str:
        user = pwd.getpwnam("postgres")
        known = verify.Known(self.system, self.begin, Account(user.pw_uid, user.pw_gid))
        return verify.verify(str(self.data), known)


@pytest.mark.soak
def test_a_wrong_copy_is_told(server: Switched) -> None:
    copy = Copied(server, Path("/run/borg-lvm-test-cluster/copy"))
    copy.make()
    assert copy.look() == f"pg_control with its checksum, WAL from {copy.begin} on"
    copy.damage(100)
    with pytest.raises(QuiesceError, match="the checksum of its global/pg_control does not fit"):
        copy.look()
    copy.make()
    copy.damage(0)
    with pytest.raises(QuiesceError, match="it is of the cluster "):
        copy.look()
    copy.make()
    old = copy.control.read_bytes()
    server.cluster.sql("create table if not exists late (n int); insert into late select generate_series(1, 50000)")
    copy.make()
    copy.control.write_bytes(old)
    with pytest.raises(QuiesceError, match=r"its last checkpoint, .*, is older than the server's"):
        copy.look()
    copy.make()
    file = copy.told(f"SELECT pg_walfile_name('{copy.begin}')")
    (copy.data / "pg_wal" / file).unlink()
    with pytest.raises(QuiesceError, match=f"it has no WAL file {file}"):
        copy.look()
    copy.make()
    (copy.data / "postmaster.pid").unlink()
    with pytest.raises(QuiesceError, match=r"it has no postmaster\.pid"):
        copy.look()
    server.stop()
    shutil.copyfile(server.cluster.data / "global" / "pg_control", copy.control)
    server.start()
    with pytest.raises(QuiesceError, match="its control file has the state 1, as of no server that runs"):
        copy.look()
    copy.control.unlink()
    with pytest.raises(QuiesceError, match="cannot be read"):
        copy.look()


@pytest.mark.soak
def test_no_program_of_the_clusters_owner_is_run_by_root(server: Switched) -> None:
    """Its own file names the process beside whose program pg_controldata is looked for."""
    copy = Copied(server, Path("/run/borg-lvm-test-cluster/copy"))
    copy.make()
    other, told = Path("/run/borg-lvm-test-cluster/other"), Path("/run/borg-lvm-test-cluster/told")
    owned(other)
    shutil.copy("/bin/sleep", other / "postgres")
    script(other, "pg_controldata", f"#!/bin/sh\nid -un >{told}\n")
    told.touch()
    told.chmod(0o666)
    with subprocess.Popen([other / "postgres", "600"]) as sleeper:
        (copy.data / "postmaster.pid").write_text(f"{sleeper.pid}\n")
        with pytest.raises(QuiesceError, match="pg_controldata prints no last checkpoint"):
            copy.look()
        sleeper.kill()
    assert told.read_text() == "postgres\n"
    shutil.rmtree(other)


class TestContract(ApplicationContract):
    """The plugin keeps the contract."""

    kind: type[ClusterSubject] = ClusterSubject
    deadline = 20.0
    patience = 60.0

    @pytest.fixture
    def subject(self, server: Switched) -> Subject:
        return self.kind(server)


@pytest.mark.soak
class TestContractByLibrary(TestContract):
    """So it does where psql is not installed."""

    @pytest.fixture(autouse=True)
    def _without(self) -> Iterator[None]:
        with hidden("psql"):
            yield


@pytest.mark.soak
def test_where_psql_is_not_installed_a_library_does(rig: Rig) -> None:
    with tidy(), hidden("psql"):
        with served(rig, THICK, HOT, checksums=True) as server:
            configured(entry_for(server.cluster))
            assert_comes_back_whole(server, 0)
        assert_nothing_left(rig)


class InBackupMode(ClusterSubject):
    """A cluster that is put into its backup mode."""

    level = "backup-mode"


@pytest.mark.soak
class TestContractBackupMode(TestContract):
    """And in its backup mode."""

    kind = InBackupMode


class TestContractBackupModeByLibrary(TestContractByLibrary):
    """And by a library in its backup mode."""

    kind = InBackupMode
