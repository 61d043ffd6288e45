"""What a command has saved is read back, and each fault of an archive is found; a sound one passes."""

from __future__ import annotations

import json
import os
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
from tests.system.support.backups.matic import BORGMATIC, Borgmatic
from tests.system.support.backups.tampered import FAULTS, Program
from tests.system.support.runs import certificates
from tests.system.support.runs.live import assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import BIN, Said, borg_lvm, run, start
from tests.system.support.writers.churn import churning

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine


@dataclass(frozen=True)
class Saving:
    """A program that saves a tree: its words, its environment, and where it keeps what it saves."""

    program: Program
    words: Sequence[str | Path]
    env: dict[str, str]
    repository: Path
    is_plain: bool = True
    """Whether what is saved can be read in its repository."""

    def renewed(self, turn: int) -> Saving:
        """Return the same for another turn: borg wants a new name for each archive."""
        return replace(self, words=[f"{word}{turn}" if str(word).endswith("::a") else word for word in self.words])

    def of(self, sources: Sequence[Path]) -> Saving:
        """Return the same for several sources: the first one stands on the command line."""
        return replace(self, words=[word for one in self.words for word in (sources if one == sources[0] else [one])])

    @property
    def flip(self) -> str:
        """Return what flips a bit of the content of `large` there, for a shell."""
        return (tampered.flipped if self.is_plain else tampered.flipped_middle)(self.repository)

    @classmethod
    def made(cls, name: str, directory: Path, tree: Path, read: Path | None = None) -> Saving:
        """Make what the program needs, in a directory that is not frozen: of a file system with attributes, for copies.

        The program reads the tree, or where it is to `read` it.
        """
        return MADE[name](tree.parent / "saved" if name in ("tar", "rsync") else directory, read or tree)

    def run(self, program: Path | str, mode: str, status: int) -> Said:
        """Run the program as one of ours, with its result proven."""
        said = borg_lvm("run", "--prove", mode, "--", program, *self.words, env=self.env, status=status)
        print(said)
        return said


def borg(directory: Path, tree: Path) -> Saving:
    made = Borg.made(directory)
    words: list[str | Path] = ["create", "--exclude", f"{tree}/directory/left-alone", made.archive("a"), tree]
    return Saving(Program("borg", "*' create '*"), words, made.env, made.repository)


def tar(directory: Path, tree: Path) -> Saving:
    directory.mkdir()
    kept = "--exclude=left-alone", "--format=posix", "--xattrs", "--acls"
    words: list[str | Path] = [*kept, "-cf", directory / "a.tar", tree]
    return Saving(Program("tar", "*' -cf '*", dry="*/dev/null*"), words, {}, directory)


def rsync(directory: Path, tree: Path) -> Saving:
    directory.mkdir()
    words: list[str | Path] = ["-aHAX", "--exclude=left-alone", tree, f"{directory}/"]
    return Saving(Program("rsync", "*' -aHAX '*"), words, {}, directory)


def restic(directory: Path, tree: Path) -> Saving:
    made = Restic.made(directory)
    words: list[str | Path] = ["backup", "--exclude", f"{tree}/directory/left-alone", tree]
    return Saving(Program("restic", "*' backup '*"), words, made.env, directory / "repository", is_plain=False)


def borgmatic(directory: Path, tree: Path) -> Saving:
    made = Borgmatic.made(directory)
    config = made.configured([tree], {"exclude_patterns": [f"{tree}/directory/left-alone"]})
    return Saving(
        Program("borgmatic", "*' create '*", at=str(BORGMATIC)),
        ["-c", config, "create"],
        made.env,
        made.borg.repository,
    )


MADE = {"borg": borg, "borgmatic": borgmatic, "restic": restic, "tar": tar, "rsync": rsync}
VIEW = "/run/borg-lvm/view/proven"
LATER = {"first": "linked"}
"""Which of two names of one file is saved first, the program decides."""
RUNS = 20 if "BORG_LVM_RUNS" in os.environ else 1
CONTROLLED = MADE.keys() if RUNS > 1 else {"rsync", "tar"}
"""With which of them it is seen that a writer would raise the alarm if live files were read."""


def each(*, but: Sequence[str]) -> pytest.MarkDecorator:
    """Return the mark of a test of each program; some of them in the soak alone."""
    rows = [pytest.param(name, marks=pytest.mark.soak if name in but else ()) for name in sorted(MADE)]
    return pytest.mark.parametrize("name", rows)


def proof() -> dict[str, Any]:
    """Return what the last run's certificate says of its proof."""
    found: dict[str, Any] = certificates.read()["proof"]
    return found


@pytest.fixture
def tree(rig: Rig) -> Path:
    """Give a tree on a volume."""
    volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
    assert volume.at
    tampered.make_tree(volume.at / "tree")
    return volume.at / "tree"


@each(but=["borgmatic"])  # its sound archives are read back below, of two repositories and of two configurations
@pytest.mark.parametrize("mode", ["sample", *(pytest.param(mode, marks=pytest.mark.soak) for mode in ("list", "all"))])
def test_a_sound_archive_passes(rig: Rig, tree: Path, name: str, mode: str) -> None:
    with tidy():
        (tree.parent / "file").write_bytes(b"frozen")
        (tree.parent / "link").symlink_to("file")
        saving = Saving.made(name, rig.path("saved"), tree).of([tree, tree.parent / "file", tree.parent / "link"])
        said = saving.run(saving.program.real, mode, 0)
        found = proof()
        assert (found["state"], found["count"], found["unchecked"]) == ("proven", 0, [])
        assert found["live"] == (name != "borgmatic")  # whose sources stand in its configuration: no file, no link
        assert found["entries"] > len(FAULTS)
        assert (found["files"] > 0, found["bytes"] > 1 << 20) == ((mode != "list"), (mode != "list"))
        assert "borg-lvm: read back: " in said.err
        assert_nothing_left(rig)


@each(but=["borgmatic"])  # its archives are read as those of borg are
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


def test_times_that_rsync_takes_for_the_same_are_no_difference(rig: Rig, tree: Path) -> None:
    with tidy():
        saving = Saving.made("rsync", rig.path("saved"), tree)
        run(saving.program.real, *saving.words)
        for name in ("directory", "kept", "first"):
            there = os.lstat(tree / name).st_mtime_ns
            beside = there + (1 if there % 10**9 < 10**8 else -1)  # in the same second
            os.utime(tree / name, ns=(beside, beside), follow_symlinks=False)
        saving.run(saving.program.real, "list", 0)  # they differ by less than a second: it leaves them
        replace(saving, words=["--modify-window=-1", *saving.words]).run(saving.program.real, "list", 0)


@each(but=["borg", "borgmatic", "restic"])  # those are flipped where they are read back as the configuration says
def test_a_flipped_bit_in_the_repository_is_found(rig: Rig, tree: Path, name: str) -> None:
    with tidy():
        saving = Saving.made(name, rig.path("saved"), tree)
        said = saving.run(saving.program.afterwards(rig.path("bin"), saving.flip), "all", 74)
        assert proof()["state"] == "differs"
        assert "BACKUP INVALID" in said.err


@each(but=["borg", "borgmatic", "restic", "rsync"])  # of what was frozen they read the same
@pytest.mark.limit(600 + 300 * RUNS)
def test_strong_writers_raise_no_alarm(rig: Rig, tree: Path, name: str) -> None:
    with tidy():
        saving = Saving.made(name, rig.path("saved"), tree)
        with churning(tree / "work") as writer:
            for turn in range(RUNS):
                saving.renewed(turn).run(saving.program.real, "all", 0)
                found = proof()
                assert (found["state"], found["count"]) == ("proven", 0), turn
                assert found["entries"] > len(FAULTS) + 20
            if name in CONTROLLED:
                live = saving.program.of_live_files(rig.path("bin"), writer.pid)
                said = saving.renewed(RUNS).run(live, "all", 74)
                assert proof()["count"] > 0
                assert "BACKUP INVALID" in said.err
        assert_nothing_left(rig)


def test_borg_lvm_borg_reads_back_what_the_configuration_says(rig: Rig, tree: Path) -> None:
    with tidy():
        saving, config = Saving.made("borg", rig.path("saved"), tree), rig.path("config.yaml")
        config.write_text("prove: {mode: all}\n")
        env = {**saving.env, "BORG_LVM_CONFIG": str(config)}
        env["BORG_LVM_BORG"] = str(saving.program.afterwards(rig.path("bin"), tampered.flipped(saving.repository)))
        said = run(BIN / "borg-lvm-borg", *saving.words, env=env, status=2)
        assert "BACKUP INVALID" in said.err
        assert proof()["state"] == "differs"
        assert_nothing_left(rig)


def test_borg_lvm_restic_reads_back_what_the_configuration_says(rig: Rig, tree: Path) -> None:
    with tidy():
        saving, config = Saving.made("restic", rig.path("restic"), tree), rig.path("config.yaml")
        config.write_text("prove: {mode: all}\n")
        env = {**saving.env, "BORG_LVM_CONFIG": str(config)}
        run(saving.program.real, *saving.words, env=saving.env)
        env["BORG_LVM_RESTIC"] = str(saving.program.afterwards(rig.path("bin"), saving.flip))
        said = run(BIN / "borg-lvm-restic", *saving.words, "--force", env=env, status=1)
        assert "BACKUP INVALID" in said.err
        assert proof()["state"] == "differs"
        made = json.loads(run("restic", "snapshots", "--json", env=saving.env).out)
        assert [one.get("tags") for one in made] == [None, ["borg-lvm-tainted"]]
        assert_nothing_left(rig)


def test_of_two_repositories_of_borgmatic_the_wrong_one_is_named(rig: Rig, tree: Path) -> None:
    with tidy():
        made, other = Borgmatic.made(rig.path("saved")), rig.path("other")
        run("borg", "init", "--encryption", "none", other, env=made.env)
        repositories = [made.borg.repository, other]
        settings = {"repositories": [{"path": str(one)} for one in repositories], "keep_daily": 1}
        config = made.configured([tree], settings)
        words: list[str | Path] = ["-c", config, "create", "prune", "compact"]
        saving = Saving(Program("borgmatic", "*' create '*", at=str(BORGMATIC)), words, made.env, other)
        for one in repositories:  # so that there is something to prune
            run("borg", "create", f"{one}::config-1", tree / "large", env=made.env)
        said = saving.run(saving.program.afterwards(rig.path("bin"), saving.flip), "all", 74)
        found = proof()
        assert len(found["archives"]) == 2
        assert {one["archive"].partition("::")[0] for one in found["differences"]} == {str(other)}
        marked = [run("borg", "list", "--short", one, env=made.env).out.split() for one in repositories]
        assert [[name.startswith("borg-lvm-tainted-") for name in names] for names in marked] == [[False], [True]]
        assert "BACKUP INVALID" in said.err
        assert_nothing_left(rig)


def test_two_files_of_borgmatics_may_make_archives_of_one_name(rig: Rig, tree: Path) -> None:
    with tidy():
        made = Borgmatic.made(rig.path("saved"))
        (tree / "directory" / "more").write_bytes(b"more")
        settings = {"archive_name_format": "{now:%f}"}
        files = [
            made.configured([tree / "large"], settings, "one"),
            made.configured([], {**settings, "patterns": [f"R {tree}/directory", f"- {tree}/directory/more"]}, "two"),
        ]
        said = borg_lvm(
            "run", "--prove", "all", "--", BORGMATIC, *(word for one in files for word in ("-c", one)), "create",
            env=made.env,
        )  # fmt: skip
        print(said)
        found = proof()
        assert (found["state"], len(found["archives"]), found["files"]) == ("proven", 2, 4)
        assert_nothing_left(rig)


def saved_from_a_view(rig: Rig, tree: Path, name: str) -> Saving:
    """Have a program save a tree from a view of `begin`; the tree goes on changing."""
    # From 1.4 on borg stores what follows the dot.
    view = Path(f"{VIEW}/.{tree}" if name.startswith("borg") else f"{VIEW}{tree}")
    saving = Saving.made(name, rig.path("saved"), tree, view)
    borg_lvm("begin", "proven", "--path", tree)
    (tree / "meanwhile").write_bytes(b"new")
    (tree / "kept").unlink()
    run(saving.program.real, *saving.words, env=saving.env)
    return saving


def ended_with_proof(saving: Saving, status: int) -> Said:
    words = ["--prove", "all", "--", saving.program.real, *saving.words]
    said = borg_lvm("end", "proven", *words, env=saving.env, status=status)
    found = proof()
    assert (found["live"], found["unchecked"]) == (0, []), said
    assert found["entries"] > len(FAULTS)
    return said


@each(but=tuple(MADE.keys() - {"tar"}))
def test_what_was_saved_from_a_view_is_read_back_before_it_goes(rig: Rig, tree: Path, name: str) -> None:
    with tidy():
        said = ended_with_proof(saved_from_a_view(rig, tree, name), 0)
        assert "borg-lvm: read back: " in said.err
        assert proof()["state"] == "proven"
        assert_nothing_left(rig)


@each(but=tuple(MADE.keys() - {"borg"}))
def test_a_fault_of_what_was_saved_from_a_view_is_found_and_marked(rig: Rig, tree: Path, name: str) -> None:
    with tidy():
        saving = saved_from_a_view(rig, tree, name)
        subprocess.run(["sh", "-c", saving.flip], check=True)
        said = ended_with_proof(saving, 74)
        assert "BACKUP INVALID" in said.err
        # Where the program stops at once, it does not say in which file.
        assert {Path(one["path"] or "large").name for one in proof()["differences"]} == {"large"}, said
        if name.startswith("borg"):
            (archive,) = archives(saving)
            assert archive.startswith("borg-lvm-tainted-")
        assert_nothing_left(rig)


def archives(saving: Saving) -> list[str]:
    return run("borg", "list", "--short", saving.repository, env=saving.env).out.split()


@pytest.mark.soak
def test_other_words_than_those_of_the_backup_prove_nothing(rig: Rig, tree: Path) -> None:
    with tidy():
        saving = saved_from_a_view(rig, tree, "borg")
        words = ["--prove", "list", "--", "borg", saving.words[0], "--stats", *saving.words[1:]]
        said = borg_lvm("end", "proven", *words, env=saving.env, status=77)
        assert "name the command line of the backup, word for word" in said.err
        assert proof()["state"] == "not proven"
        assert archives(saving) == ["a"]
        assert_nothing_left(rig)


def test_what_was_saved_from_a_view_that_was_unmounted_is_marked(rig: Rig, tree: Path) -> None:
    with tidy():
        saving = saved_from_a_view(rig, tree, "borg")
        run("umount", "--recursive", VIEW)
        words = ["--prove", "list", "--", "borg", *saving.words]
        said = borg_lvm("end", "proven", *words, env=saving.env, status=74)
        assert "BACKUP INVALID" in said.err
        assert archives(saving) == ["borg-lvm-tainted-a"]
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
