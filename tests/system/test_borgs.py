"""Debian's borg 1 and two pre-releases of borg 2: other options, other directories, and the same result."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.releases import program
from tests.rig import Rig
from tests.system.support.backups.archives import statuses
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import BIN, Said, run

pytestmark = [pytest.mark.limit(300), pytest.mark.soak]  # seconds; a fraction of it on an idle machine


@dataclass(frozen=True)
class Kind:
    """A borg and its words: those that make a repository, and those that name an archive in one."""

    name: str
    version: str
    two: bool
    encryption: str = "none"
    release: str = ""
    create: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        return str(program(self.release, self.name)) if self.release else f"/usr/bin/{self.name}"

    @property
    def init(self) -> str:
        """The command that makes a repository, whose name has changed twice."""
        commands = run(self.program, "--help").out
        return next(name for name in ("repo-create", "rcreate", "init") if re.search(rf"\b{name}\b", commands))

    def archive(self, repository: Path, name: str) -> tuple[str, ...]:
        return ("--repo", str(repository), name) if self.two else (f"{repository}::{name}",)


OLD = Kind("borg", "borg 1.", two=False)
NEW = Kind("borg2", "borg2 2.", two=True)
NEWEST = Kind(
    "borg2",
    "borg 2.",
    two=True,
    encryption="authenticated-sha256",
    release="sid",
    create=("--group-by", "host"),
)


@pytest.mark.parametrize(
    "borg",
    [
        pytest.param(OLD, marks=pytest.mark.needs("borg"), id="1"),
        pytest.param(NEW, marks=pytest.mark.needs("borg2"), id="2"),
        pytest.param(NEWEST, id="newest-2"),
    ],
)
def test_the_same_archive_and_the_cache_hits(rig: Rig, borg: Kind) -> None:
    with tidy():
        top = rig.volume("data", fs="ext4", at=rig.path("data")).at
        assert top
        for name in ("one", "two", "three"):
            (top / name).write_text(name)
        (top / "left out.o").write_text("excluded")
        time.sleep(3.0)  # the newest pre-release of borg 2 takes less for one instant
        (top / "newest").write_text("borg never trusts the newest of all")
        # All that borg keeps for itself lies below the source, as it does where /root or /home is one.
        env = {
            "BORG_BASE_DIR": str(top / "base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_PASSPHRASE": "",
            "BORG_DISPLAY_PASSPHRASE": "no",
            "BORG_FILES_CACHE_SUFFIX": "test",  # else borg 2 has a cache for each name of an archive
            "TMPDIR": "/tmp",
        }
        repository = rig.path("repository")
        where = ("--repo", str(repository)) if borg.two else (str(repository),)
        assert borg.version in run(borg.program, "--version").out
        # Only the first word of borg 2's is not where the repository is.
        run(borg.program, borg.init, "--encryption", borg.encryption, *where, env=env)
        os.sync()

        def create(name: str, *before: str | Path, **more: str) -> Said:
            options = ("create", "--list", *borg.create, "--exclude", "*.o", "--exclude", f"{top}/base")
            return run(*before, *options, *borg.archive(repository, name), top, env=env | more)

        create("plain", borg.program)
        plain = statuses(create("again", borg.program))
        frozen = statuses(create("frozen", BIN / "borg-lvm", "run", "--", borg.program))
        in_place = statuses(create("in-place", BIN / "borg-lvm-borg", BORG_LVM_BORG=borg.program))
        assert plain == frozen == in_place
        assert list(plain.values()).count("U") == 3
        words = ("list", "--format", "{path}{NL}")
        listed = {
            name: run(borg.program, *words, *borg.archive(repository, name), env=env).out
            for name in ("plain", "frozen")
        }
        assert listed["plain"] == listed["frozen"]
    assert_nothing_left(rig)
