"""Builds what a release consists of, each of it twice, elsewhere and at another time: both must be the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import tools
from tests.lab.log import logged
from tests.release import archive
from tests.release.refusals import git

NOT_TAKEN = ("borg_lvm_hooks",)
"""A link, by which mypy finds hooks/ under the name that is installed."""
CHANCES = ({"TZ": "UTC", "PYTHONHASHSEED": "0"}, {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "1", "LANG": "C"})
"""What is different from build to build."""


class ReleaseError(Exception):
    """A release cannot be made; says why."""


def epoch(root: Path) -> int:
    """Return when the commit of a checkout was made, in seconds. Raises: CalledProcessError."""
    return int(git(root, "log", "-1", "--format=%ct"))


def sdist(root: Path, target: Path, at: int) -> Path:
    """Build the source distribution of a commit (HEAD), of the time `at`. Raises: ReleaseError if it lacks a file."""
    return _sdist(root, target, at, CHANCES[0])


def _sdist(root: Path, target: Path, at: int, chances: dict[str, str]) -> Path:
    with _clone(root) as clone:
        files = {name for name in git(clone, "ls-files").split("\n") if name} - set(NOT_TAKEN)
        made = _built("--sdist", clone, target, at, chances)
    archive.settle(made, at)
    if lacking := files - archive.names(made):
        raise ReleaseError(f"{made.name} lacks {', '.join(sorted(lacking))}")
    return made


def distributions(root: Path, target: Path, at: int) -> list[Path]:
    """Build the source distribution, and the wheel from it. Raises: ReleaseError if a second build differs."""
    made = _distributions(root, target, at, CHANCES[0])
    with tempfile.TemporaryDirectory() as second:
        compare(made, _distributions(root, Path(second), at, CHANCES[1]))
    return made


def _distributions(root: Path, target: Path, at: int, chances: dict[str, str]) -> list[Path]:
    source = _sdist(root, target, at, chances)
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(source) as packed:
            packed.extractall(unpacked, filter="data")
        (tree,) = Path(unpacked).iterdir()
        return [source, _built("--wheel", tree, target, at, chances)]


def compare(first: list[Path], second: list[Path]) -> None:
    """Raise ReleaseError for files that are not the same in two builds."""
    if [path.name for path in first] != [path.name for path in second]:
        raise ReleaseError(f"the second build has other files: {', '.join(path.name for path in second)}")
    if differing := [one.name for one, other in zip(first, second, strict=True) if digest(one) != digest(other)]:
        raise ReleaseError(f"a second build of {', '.join(differing)} has other bytes")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _built(kind: str, tree: Path, target: Path, at: int, chances: dict[str, str]) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        env = {**chances, "SOURCE_DATE_EPOCH": str(at)}
        logged([str(tools.programs("release") / "python"), "-m", "build", kind, "--outdir", place, str(tree)], env)
        (made,) = Path(place).iterdir()
        return Path(shutil.move(made, target / made.name))


@contextmanager
def _clone(root: Path) -> Iterator[Path]:
    """Have the commit of a checkout elsewhere, with nothing but what is committed."""
    before = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory() as place:
            clone = Path(place) / "borg-lvm"
            subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
            yield clone
    finally:
        os.umask(before)
