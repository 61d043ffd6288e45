"""borgmatic on volumes that are busy: growth saves the backup, and where a snapshot is lost, borgmatic is ended.

With borgmatic's own LVM hook the same ends with status 0 and an archive without files.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.tools import run as tool
from tests.system.support.backups.archives import Borg, in_tar
from tests.system.support.backups.matic import saving
from tests.system.support.runs import certificates
from tests.system.support.runs.live import Run, assert_nothing_left, dmeventds, tidy
from tests.system.support.runs.program import run
from tests.system.support.writers.watching import overwrite
from tests.system.test_front import SECRET
from tests.system.test_overflow import MONITORED, overflow, prepared

pytestmark = [pytest.mark.limit(600), pytest.mark.soak]  # seconds; a fraction of it on an idle machine
EITHER = pytest.mark.parametrize("dmeventd", [True, False])
FORMAT = "of-{hostname}-{now:%H%M%S%f}"


class Backup:
    """Two configurations of borgmatic's with a repository each; the second one's borg waits at a gate to save."""

    def __init__(self, rig: Rig, source: Path) -> None:
        self.borg = Borg.made(rig.path("borg"))
        self.env = {**self.borg.env, "HOME": str(rig.path("home")), "XDG_RUNTIME_DIR": str(rig.path("runtime"))}
        for name in ("HOME", "XDG_RUNTIME_DIR"):
            Path(self.env[name]).mkdir()
        self.gate = saving(rig.path("gate"))
        self.first, self.second = self.borg.directory / "first", self.borg.repository
        run("borg", "init", "--encryption", "repokey-blake2", self.first, env=self.with_secret)
        self.directory = rig.path("borgmatic.d")
        self.directory.mkdir()
        self.configure("a", source, self.first, encryption_passcommand=f"echo {SECRET}")
        self.configure("b", source, self.second, local_path=str(self.gate.program))

    def configure(self, name: str, source: Path, repository: Path, **more: str) -> None:
        """Write one of the files; JSON is YAML."""
        path = self.directory / f"{name}.yaml"
        settings = {
            "source_directories": [str(source)],
            "repositories": [{"path": str(repository)}],
            "archive_name_format": FORMAT,
            "extra_borg_options": {"create": "--comment '${BORG_LVM_RUN:-none}'"},
            **more,
        }
        path.write_text(json.dumps(settings))
        path.chmod(0o600)

    @property
    def with_secret(self) -> dict[str, str]:
        return {**self.borg.env, "BORG_PASSPHRASE": SECRET}

    def plain(self, archive: str) -> None:
        """Save something by borg itself."""
        run("borg", "create", f"{self.first}::{archive}", "/etc/hostname", env=self.with_secret)

    def archives(self, repository: Path) -> dict[str, str]:
        """Return the names of the archives, and their comments."""
        words = ("borg", "list", "--format", "{archive} {comment}{NL}", repository)
        lines = run(*words, env=self.with_secret).out.splitlines()
        return dict((line.rstrip() + " ").split(" ", 1) for line in lines)

    def files(self, repository: Path, archive: str) -> dict[str, str]:
        tar = run("borg", "export-tar", f"{repository}::{archive}", "-", env=self.with_secret)
        return {path: text for path, text in in_tar(tar).items() if "borgmatic" not in path}


def started(rig: Rig, backup: Backup, snapshot: str) -> Run:
    """Start borgmatic on frozen volumes; the first of its repositories is done when it comes to the gate.

    When it is ended it sends the signal on to its process group, which must not be ours.
    """
    config = rig.path("config.yaml")
    config.write_text(f"snapshot: {snapshot}\n")
    words = ("run", "--config", config, "--", "borgmatic", "--config", backup.directory, "create")
    running = Run(*words, env=backup.env)
    running.waited_for((backup.gate.directory / "started").exists, "the second repository's turn")
    return running


def monitored(running: Run, group: str) -> None:
    """Have dmeventd watch the snapshot, as LVM on a server does with one of anybody's."""
    tool("lvchange", "-y", "--monitor", "y", *MONITORED, f"{group}/borg_lvm-{running.id()}-0")
    assert dmeventds()


@EITHER
def test_a_lost_snapshot_ends_it_and_what_was_finished_is_sound(rig: Rig, dmeventd: bool) -> None:
    with tidy():
        volume, _ = prepared(rig)
        assert volume.at
        backup = Backup(rig, volume.at / "files")
        backup.plain("of-long-ago")
        running = started(rig, backup, "{size: 8M, grow: false}")
        run_id = running.id()
        if dmeventd:
            monitored(running, volume.group.name)
        backup.plain("of-another")  # while the run goes on, and none of its
        time.sleep(3)  # looks are a second apart, and borg's times may be cut to seconds
        overflow(volume)
        said = running.end(74)
        print(said.err)
        left = backup.archives(backup.first)
        (made,) = set(left) - {"of-long-ago", "of-another"}
        assert left[made].strip() == run_id  # as the configuration wants it
        assert f"{backup.first}: borg's archive {made} was finished before that: it is sound" in said.err
        assert f"{backup.second}: borg has saved no archive in this run" in said.err
        assert backup.archives(backup.second) == {}
        assert "BACKUP INVALID" in said.err
        assert "give the snapshot more room" in said.err
        assert SECRET not in said.err
        assert_nothing_left(rig)


@EITHER
def test_growth_saves_the_backup(rig: Rig, dmeventd: bool) -> None:
    with tidy():
        volume, expected = prepared(rig)
        assert volume.at
        backup = Backup(rig, volume.at / "files")
        running = started(rig, backup, "{size: 16M}")
        run_id = running.id()
        if dmeventd:
            monitored(running, volume.group.name)
        overwrite(volume.at, 40, pause=0.3)
        for name in expected:
            Path("/", name).write_text("too late")
        (backup.gate.directory / "open").touch()
        said = running.end(0)
        print(said.err)
        assert "snapshot grown" in said.err
        for repository in (backup.first, backup.second):
            ((name, comment),) = backup.archives(repository).items()
            assert backup.files(repository, name) == expected
            assert comment.strip() == run_id
        assert certificates.read(run_id)["result"] == "success"
        assert_nothing_left(rig)
