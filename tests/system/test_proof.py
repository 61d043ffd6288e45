"""What a command has saved is read back, and each fault of an archive is found; a sound one passes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig
from tests.system.support.backups import tampered
from tests.system.support.backups.archives import Borg, Restic
from tests.system.support.backups.tampered import FAULTS, Program
from tests.system.support.runs.live import assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import BIN, Said, borg_lvm, run, start

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine


@dataclass(frozen=True)
class Saving:
    """A program that saves a tree: its words, its environment, and where it keeps what it saves."""

    program: Program
    words: Sequence[str | Path]
    env: dict[str, str]
    repository: Path

    @classmethod
    def made(cls, name: str, folder: Path, tree: Path) -> Saving:
        """Make what the program needs, in a folder that is not frozen: of a file system with attributes, for copies."""
        return MADE[name](folder if name == "borg" else tree.parent / "saved", tree)

    def run(self, program: Path | str, mode: str, status: int) -> Said:
        """Run the program as one of ours, with its result proven."""
        said = borg_lvm("run", "--prove", mode, "--", program, *self.words, env=self.env, status=status)
        print(said)
        return said


def borg(folder: Path, tree: Path) -> Saving:
    made = Borg.made(folder)
    words: list[str | Path] = ["create", "--exclude", f"{tree}/directory/left-alone", made.archive("a"), tree]
    return Saving(Program("borg", "*' create '*"), words, made.env, made.repository)


def tar(folder: Path, tree: Path) -> Saving:
    folder.mkdir()
    kept = "--exclude=left-alone", "--format=posix", "--xattrs", "--acls"
    words: list[str | Path] = [*kept, "-cf", folder / "a.tar", tree]
    return Saving(Program("tar", "*' -cf '*", dry="*/dev/null*"), words, {}, folder)


def rsync(folder: Path, tree: Path) -> Saving:
    folder.mkdir()
    words: list[str | Path] = ["-aHAX", "--exclude=left-alone", tree, f"{folder}/"]
    return Saving(Program("rsync", "*' -aHAX '*"), words, {}, folder)


MADE = {"borg": borg, "tar": tar, "rsync": rsync}
LATER = {"first": "linked"}
"""Which of two names of one file is saved first, the program decides."""
EACH = pytest.mark.parametrize("name", sorted(MADE))


def proof() -> dict[str, Any]:
    """Return what the last run's certificate says of its proof."""
    found: dict[str, Any] = json.loads(borg_lvm("report", "--json").out)["proof"]
    return found


@pytest.fixture
def tree(rig: Rig) -> Path:
    """Give a tree on a volume."""
    volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
    assert volume.at
    tampered.make_tree(volume.at / "tree")
    return volume.at / "tree"


@EACH
@pytest.mark.parametrize("mode", ["list", "sample", "all"])
def test_a_sound_archive_passes(rig: Rig, tree: Path, name: str, mode: str) -> None:
    with tidy():
        saving = Saving.made(name, rig.path("saved"), tree)
        said = saving.run(saving.program.real, mode, 0)
        found = proof()
        assert (found["state"], found["count"], found["unchecked"]) == ("proven", 0, [])
        assert found["entries"] > len(FAULTS)
        assert (found["files"] > 0, found["bytes"] > 1 << 20) == ((mode != "list"), (mode != "list"))
        assert "borg-lvm: read back: " in said.err
        assert_nothing_left(rig)


@EACH
def test_sources_that_are_a_file_and_a_link(rig: Rig, tree: Path, name: str) -> None:
    with tidy():
        saving = Saving.made(name, rig.path("saved"), tree)
        (tree / "kept").unlink()  # a link with nothing behind it is no source
        (tree / "link").symlink_to("first")
        sources = [tree / "large", tree / "link", tree / "directory"]
        words = [word for one in saving.words for word in (sources if one == tree else [one])]
        replace(saving, words=words).run(saving.program.real, "all", 0)
        found = proof()
        assert (found["state"], found["count"], found["live"]) == ("proven", 0, 1)
        assert_nothing_left(rig)


@EACH
def test_each_fault_is_found(rig: Rig, tree: Path, name: str) -> None:
    with tidy():
        saving = Saving.made(name, rig.path("saved"), tree)
        altered = tree.parent / "altered"
        tampered.alter(tree, altered)
        said = saving.run(saving.program.altered(rig.path("bin"), tree, altered), "all", 74)
        named = proof()["differences"]
        assert len({one["path"] for one in named}) == len(named)
        found = {LATER.get(Path(one["path"]).name, Path(one["path"]).name): one for one in named}
        for file, what in FAULTS.items():
            assert file in found, (file, found)
            assert what in found[file]["what"], (file, found)
            assert f"{found[file]['path']}: {what}" in said.err
        assert set(found) == set(FAULTS)
        assert "BACKUP INVALID" in said.err
        assert_nothing_left(rig)


@EACH
def test_a_flipped_bit_in_the_repository_is_found(rig: Rig, tree: Path, name: str) -> None:
    with tidy():
        saving = Saving.made(name, rig.path("saved"), tree)
        flip = tampered.flipped(saving.repository)
        said = saving.run(saving.program.afterwards(rig.path("bin"), flip), "all", 74)
        assert proof()["state"] == "differs"
        assert "BACKUP INVALID" in said.err


def test_borg_lvm_borg_reads_back_what_the_configuration_says(rig: Rig, tree: Path) -> None:
    with tidy():
        saving, config = Saving.made("borg", rig.path("saved"), tree), rig.path("config.yaml")
        config.write_text("prove: {mode: all}\n")
        env = {**saving.env, "BORG_LVM_CONFIG": str(config)}
        run(BIN / "borg-lvm-borg", *saving.words, env=env)
        assert proof()["state"] == "proven"
        run("borg", "delete", f"{saving.repository}::a", env=saving.env)
        env["BORG_LVM_BORG"] = str(saving.program.afterwards(rig.path("bin"), tampered.flipped(saving.repository)))
        said = run(BIN / "borg-lvm-borg", *saving.words, env=env, status=2)
        assert "BACKUP INVALID" in said.err
        assert proof()["state"] == "differs"
        assert_nothing_left(rig)


def test_borg_lvm_restic_is_refused_by_name_where_it_would_have_to_be_read_back(rig: Rig, tree: Path) -> None:
    with tidy():
        restic, config = Restic.made(rig.path("restic")), rig.path("config.yaml")
        config.write_text("prove: {mode: list}\n")
        env = {**restic.env, "BORG_LVM_CONFIG": str(config)}
        said = run(BIN / "borg-lvm-restic", "backup", tree, env=env, status=1)
        assert "no plugin reads back what `restic` saves; nothing was done" in said.err
        assert json.loads(run("restic", "snapshots", "--json", env=restic.env).out or "[]") == []
        assert_nothing_left(rig)


@pytest.fixture
def hanging(rig: Rig, tree: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a run that hangs while it reads back; it has ten seconds for that."""
    saving = Saving.made("rsync", rig.path("saved"), tree)
    config, program = rig.path("config.yaml"), saving.program.hanging(rig.path("bin"))
    config.write_text("prove: {mode: list, time_limit: 10}\n")
    with start([BIN / "borg-lvm", "run", "--config", config, "--", program, *saving.words]) as running:
        wait_for((program.parent / "started").exists, "reading back")
        yield running


def test_the_time_limit_ends_it_and_is_told(rig: Rig, hanging: subprocess.Popen[bytes]) -> None:
    with tidy():
        _, err = hanging.communicate(timeout=300)
        assert hanging.returncode == 0, err
        assert b"read back until the time limit: " in err
        assert proof()["state"] == "limit"
        assert_nothing_left(rig)


def test_a_signal_ends_it_and_the_run(rig: Rig, hanging: subprocess.Popen[bytes]) -> None:
    with tidy():
        hanging.terminate()
        _, err = hanging.communicate(timeout=300)
        assert hanging.returncode == 128 + signal.SIGTERM, err
        assert b"ended by SIGTERM while the backup was read back" in err
        assert_nothing_left(rig)


def test_what_a_kill_leaves_is_cleaned(rig: Rig, hanging: subprocess.Popen[bytes]) -> None:
    with tidy():
        hanging.kill()
        hanging.communicate(timeout=300)
        borg_lvm("clean")
        assert_nothing_left(rig)
