"""Which archive is restored from: that of a run, or one of a name; and that it is all there, whatever the sources are.

Each backup program that a drill restores from must pass; it is the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from borg_lvm.drill import restore
from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import Invocation, Span
from borg_lvm.plugins.read_back import Programs, ReadBack, Selection
from borg_lvm.proof.programs import ViewPrograms

BIN = Path(sys.executable).parent
OLD = 1_000_000_007 * 10**9
CONTENT = {"db/data": b"x" * 70_000 + bytes(200_000) + b"y", "db/deep/empty": b"", "db/deep/it's é": b"content"}


def planted(tree: Path) -> None:
    """Make what applications have: a tree with a link out of it, and beside it a file with its journal."""
    (tree / "db" / "deep").mkdir(parents=True)
    for name, data in CONTENT.items():
        (tree / name).write_bytes(data)
    (tree / "db" / "link").symlink_to("/somewhere/else")
    (tree / "db" / "deep").chmod(0o2750)
    (tree / "db" / "data").chmod(0o600)
    (tree / "single").write_bytes(b"a database in one file")
    (tree / "single-wal").write_bytes(b"its journal")
    (tree / "other").write_bytes(b"of nobody who is drilled")
    for path in (tree / "db" / "data", tree / "db" / "deep"):
        os.utime(path, ns=(OLD, OLD))


@dataclass(frozen=True)
class Program:
    """A backup program: what makes its repository, the words of its backup, and the name of what the first one made."""

    prepare: Callable[[Path, dict[str, str]], object]
    words: Callable[[Path], list[str]]
    name: Callable[[Path, dict[str, str]], str]
    needs: tuple[str, ...] = ()


def _borg(directory: Path, env: dict[str, str]) -> None:
    subprocess.run([BIN / "borg", "init", "--encryption", "none", directory / "repo"], check=True, env=env)


def _restic(directory: Path, env: dict[str, str]) -> None:
    subprocess.run(["restic", "init"], check=True, env=env, stdout=subprocess.DEVNULL)


def _restic_name(directory: Path, env: dict[str, str]) -> str:
    listed = subprocess.run(["restic", "snapshots", "--json"], check=True, env=env, capture_output=True)
    return str(min(json.loads(listed.stdout), key=lambda one: one["time"])["short_id"])


def _borgmatic(directory: Path, env: dict[str, str]) -> None:
    _borg(directory, env)
    config = {
        "source_directories": [str(directory / "tree")],
        "repositories": [
            {"path": str(directory / "repo"), "label": "first"},
            {"path": str(directory / "no"), "label": "no"},
        ],
        "local_path": str(BIN / "borg"),
        "archive_name_format": "a-{now:%H%M%S%f}",
        "unknown_unencrypted_repo_access_is_ok": True,
    }
    (directory / "config.yaml").write_text(json.dumps(config))


def _borgmatic_name(directory: Path, env: dict[str, str]) -> str:
    argv = [str(BIN / "borg"), "list", "--short", str(directory / "repo")]
    return subprocess.run(argv, check=True, env=env, capture_output=True).stdout.decode().split()[0]


PROGRAMS = {
    "borg": Program(
        _borg,
        lambda directory: [str(BIN / "borg"), "create", f"{directory}/repo::a", f"{directory}/tree"],
        lambda *_: "a",
    ),
    "borgmatic": Program(
        _borgmatic,
        lambda directory: [
            str(BIN / "borgmatic"),
            "--config",
            f"{directory}/config.yaml",
            "create",
            "--repository",
            "first",
        ],
        _borgmatic_name,
        ("borgmatic",),
    ),
    "restic": Program(_restic, lambda directory: ["restic", "backup", f"{directory}/tree"], _restic_name, ("restic",)),
    "rsync": Program(
        lambda directory, env: (directory / "copy").mkdir(),
        lambda directory: ["rsync", "-aX", f"{directory}/tree", f"{directory}/copy/"],
        lambda directory, env: "copy",
        ("rsync",),
    ),
    "tar": Program(
        lambda directory, env: None,
        lambda directory: ["tar", "-cf", f"{directory}/a.tar", "--format=posix", f"{directory}/tree"],
        lambda *_: "a.tar",
    ),
}


class Made:
    """A command that has saved a tree, which is gone since; and what its plugin says of its archives."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.tree, self.program = directory, directory / "tree", PROGRAMS[name]
        planted(self.tree)
        self.env = {**os.environ, "BORG_BASE_DIR": str(directory), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
        self.env |= {
            "RESTIC_REPOSITORY": f"{directory}/repo",
            "RESTIC_PASSWORD": "x",
            "RESTIC_CACHE_DIR": f"{directory}/c",
        }
        self.env |= {"HOME": str(directory), "LC_ALL": "C.UTF-8"}
        self.program.prepare(directory, self.env)
        self.invocation = Invocation(tuple(self.program.words(directory)), self.env, str(directory))
        self.span = self.saved()
        answer = manager.read_back([name], self.invocation)
        assert answer
        assert not answer.refused
        self.answer: ReadBack = answer
        self.programs: Programs = ViewPrograms(self.invocation, time.monotonic() + 300)
        shutil.rmtree(self.tree)

    def saved(self) -> Span:
        """Have the command save it, and return when that was."""
        before = time.time()
        subprocess.run(self.invocation.argv, check=True, env=self.env, cwd=self.directory, stdout=subprocess.DEVNULL)
        return Span(before - 1, time.time() + 0.1)

    def name(self) -> str:
        """Return the name of what it has saved first, as the program calls it."""
        return self.program.name(self.directory, self.env)

    def restored(self, which: Span | str, directory: Path) -> Path:
        """Restore what two applications need, and return the tree where it is."""
        assert self.answer.restored
        saved = self.answer.restored(self.programs, which)
        selections = {
            "db": Selection(prefixes=(f"{self.tree}/db",)),
            "single": Selection(paths=frozenset([f"{self.tree}/single-wal"]), prefixes=(f"{self.tree}/single",)),
            "none": Selection(prefixes=(f"{self.tree}/there-is-none", "/nowhere/at/all")),
        }
        directory.mkdir()
        wanted = restore.listed(saved, selections)
        assert wanted["db"].bytes == sum(map(len, CONTENT.values()))
        assert wanted["none"].entries == ()
        del selections["none"]
        for name, selection in selections.items():
            restore.restore(saved, wanted[name], selection, str(directory), lambda: None)
        return directory / str(self.tree).lstrip("/")


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.needs(*one.needs)) for name, one in PROGRAMS.items()]
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Give what each program has made."""
    return Made(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.process
def test_all_of_it_is_restored_though_the_sources_are_gone(made: Made, tmp_path: Path) -> None:
    tree = made.restored(made.span, tmp_path / "to")
    assert sorted(os.listdir(tree)) == ["db", "single", "single-wal"]
    assert sorted(os.listdir(tree / "db")) == ["data", "deep", "link"]
    assert {name: (tree / name).read_bytes() for name in CONTENT} == CONTENT
    assert (tree / "single-wal").read_bytes() == b"its journal"
    assert os.readlink(tree / "db" / "link") == "/somewhere/else"
    for name, mode in (("db/deep", 0o2750), ("db/data", 0o600)):
        info = (tree / name).stat()
        assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns, info.st_uid) == (mode, OLD, os.getuid()), name


@pytest.mark.process
def test_it_is_that_of_the_run_or_of_the_name_and_no_other(made: Made, tmp_path: Path) -> None:
    assert (made.restored(made.name(), tmp_path / "by-name") / "single").read_bytes() == b"a database in one file"
    assert made.answer.restored
    for which in (Span(1.0, 2.0), "there-is-none"):
        with pytest.raises((LookupError, ProgramError, OSError), match=r"--archive|there-is-none"):
            tuple(made.answer.restored(made.programs, which).entries())
