"""PostgreSQL over three volumes, hot, backed up by borg: what comes out of the archive is a whole cluster."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from borg_lvm.applications import Application, Wish
from borg_lvm.contract import ApplicationContract, Subject
from hooks import postgresql
from tests.rig import Rig
from tests.system.cluster import Cluster, judged, settle
from tests.system.live import assert_nothing_left, tidy
from tests.system.program import BIN, Said, borg_lvm, run

pytestmark = pytest.mark.limit(1500)
RUNS = int(os.environ.get("BORG_LVM_RUNS", "1"))
CONTROLS = 3
BORG = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}


class Stage:
    """A cluster over three volumes, a repository, and the configuration for both."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        rig.directory.chmod(0o755)
        group = rig.group(disks=2)
        for name, mib, fs in (("data", 160, "ext4"), ("wal", 128, "xfs"), ("space", 160, "ext4")):
            rig.volume(name, fs=fs, mib=mib, at=rig.path(name), group=group)
        self.parts = [rig.path(name) / "pg" for name in ("data", "wal", "space")]
        self.cluster = Cluster(self.parts[0], self.parts[1], self.parts[2], rig.path("socket"))
        self.repository = rig.path("repository")
        self.entry: dict[str, Any] = {"plugin": "postgresql", "options": {"socket": str(self.cluster.socket)}}

    def config(self) -> Path:
        """Write the configuration; not below a folder that is open to everybody."""
        path = Path("/run/borg-lvm-test-postgresql.yaml")
        path.write_text(
            yaml.safe_dump(
                {
                    "deadline": 60,
                    "command_timeout": 300,
                    "snapshot": {"size": "80%ORIGIN"},
                    "applications": [self.entry] if self.entry else [],
                }
            )
        )
        return path

    def backup(self, archive: str, *options: str, status: int = 0, parts: list[Path] | None = None) -> Said:
        """Have borg-lvm run borg."""
        if not self.repository.exists():
            run(BIN / "borg", "init", "-e", "none", self.repository, env=BORG)
        words: list[str | Path] = [BIN / "borg", "create", f"{self.repository}::{archive}", *(parts or self.parts)]
        return borg_lvm("run", "--config", self.config(), *options, "--", *words, status=status, env=BORG)

    def judge(self, archive: str) -> tuple[list[str], int]:
        """Extract an archive and judge it."""
        target = self.rig.path(f"extracted-{archive}")
        target.mkdir()
        run(BIN / "borg", "extract", "--numeric-ids", f"{self.repository}::{archive}", cwd=target, env=BORG)
        try:
            return judged(self.cluster, [(target / str(part).lstrip("/"), part) for part in self.parts])
        finally:
            shutil.rmtree(target)


@contextmanager
def staged(rig: Rig) -> Iterator[Stage]:
    """Give a stage whose cluster runs."""
    stage = Stage(rig)
    with tidy():
        try:
            stage.cluster.make()
            yield stage
        finally:
            stage.cluster.stop()


def test_a_cluster_over_three_volumes_comes_back_whole(rig: Rig) -> None:
    with staged(rig) as stage:
        with stage.cluster.busy():
            found = []
            for turn in range(RUNS):
                settle()
                before = stage.cluster.history()
                said = stage.backup(f"a{turn}")
                found.append((said, before, stage.cluster.history()))
        for turn, (said, before, after) in enumerate(found):
            assert "postgresql: quiesced (checkpoint) for " in said.err
            wrong, count = stage.judge(f"a{turn}")
            assert wrong == []
            assert before <= count <= after, (before, count, after)
        shown = borg_lvm("plan", "--config", stage.config(), "--", "borg", "create", "x::y", *stage.parts).out
        for volume, what in (("data", "data"), ("wal", "WAL"), ("space", "tablespace")):
            assert any(f" {what} " in line and line.endswith(f"/{volume}") for line in shown.splitlines()), shown
        stage.cluster.stop()
        assert_nothing_left(rig)


@pytest.mark.soak  # test_postgres.py has the same control
def test_the_judge_sees_one_snapshot_after_the_other(rig: Rig) -> None:
    with staged(rig) as stage:
        stage.entry = {}
        stage.parts = [stage.parts[number] for number in (1, 2, 0)]
        with stage.cluster.busy():
            for turn in range(CONTROLS):
                settle()
                stage.backup(f"s{turn}", "--consistency", "per-volume")
        found = [stage.judge(f"s{turn}")[0] for turn in range(CONTROLS)]
        print(*found, sep="\n")
        assert any(found)


def test_what_is_wrong_is_told(rig: Rig) -> None:
    with staged(rig) as stage:
        said = stage.backup("a", status=69, parts=stage.parts[:2])
        assert f"{stage.parts[2]} (tablespace): it lies on " in said.err
        said = stage.backup("a", "--consistency", "per-volume", status=69)
        assert "must be of one instant" in said.err
        stage.entry["options"]["role"] = "weak"
        said = stage.backup("a", status=71)
        assert "must be superuser or have privileges of pg_read_all_settings" in said.err
        stage.cluster.sql("GRANT pg_read_all_settings TO weak")
        said = stage.backup("a", status=71)
        assert "the role weak may not do a checkpoint" in said.err
        stage.cluster.sql("GRANT pg_checkpoint TO weak")
        said = stage.backup("weak")
        assert "postgresql: quiesced (checkpoint) for " in said.err
        stage.entry["options"]["role"] = "nobody"
        said = stage.backup("a", status=71)
        assert "Peer authentication failed" in said.err
        del stage.entry["options"]["role"]
        stage.entry["prepare_timeout"] = 5
        pid = int((stage.cluster.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)
        try:
            said = stage.backup("a", status=71)
            assert "took longer than 5 s" in said.err
        finally:
            os.kill(pid, signal.SIGCONT)
        stage.cluster.stop()
        said = stage.backup("a", status=71)
        assert "no server listens at " in said.err
        stage.entry["on_failure"] = "skip-if-absent"
        said = stage.backup("a")
        assert "postgresql: not quiesced: " in said.err
        assert_nothing_left(rig)


class ClusterSubject(Subject):
    """A cluster, for the contract."""

    stops_writers = False

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.cluster.sql("CREATE TABLE IF NOT EXISTS words (word text)")

    def make(self, deadline: float) -> Application:
        options = postgresql.Options(socket=str(self.cluster.socket))
        return postgresql.PostgreSQL(Wish("it", "checkpoint", deadline, options))

    def write(self, seconds: float) -> bool:
        self.cluster.sql(f"SET statement_timeout = '{seconds:g}s'; INSERT INTO words VALUES ('word')")
        return True

    def keeps(self) -> list[str]:
        return [str(path) for path in (self.cluster.data, self.cluster.wal, self.cluster.space)]

    @contextmanager
    def gone(self) -> Iterator[None]:
        self.cluster.stop()
        try:
            yield
        finally:
            self.cluster.start()

    def lose(self) -> bool:
        self.cluster.stop()
        self.cluster.start()
        return True


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Give a cluster in memory."""
    base = Path("/run/borg-lvm-test-cluster")
    base.mkdir(mode=0o755, exist_ok=True)
    made = Cluster(base / "data", base / "wal", base / "space", base / "socket")
    try:
        made.make()
        yield made
    finally:
        made.stop()
        shutil.rmtree(base)


class TestContract(ApplicationContract):
    """The plugin keeps the contract."""

    deadline = 20.0
    patience = 60.0

    @pytest.fixture
    def subject(self, cluster: Cluster) -> Subject:
        return ClusterSubject(cluster)


