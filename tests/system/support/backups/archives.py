"""Repositories of borg and restic for tests, archives of tar, and what they hold."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.support.runs import for_this_guest
from tests.system.support.runs.program import Said, run


@dataclass(frozen=True)
class Borg:
    """A repository of borg's and the directory for its cache, below one directory that is not frozen."""

    directory: Path

    @classmethod
    def made(cls, directory: Path) -> Borg:
        """Return a new repository: a copy of an empty one that is made but once, because that takes its time."""
        shutil.copytree(empty_repository(), directory)
        return cls(directory)

    @property
    def repository(self) -> Path:
        """Where the repository is."""
        return self.directory / "repository"

    @property
    def env(self) -> dict[str, str]:
        """What borg has to find in its environment; it asks no questions then."""
        return {
            "BORG_BASE_DIR": str(self.directory / "base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "TMPDIR": "/tmp",
        }

    def archive(self, name: str) -> str:
        """Return `REPOSITORY::name`."""
        return f"{self.repository}::{name}"

    def known_as(self, name: str) -> str:
        """Return what a drill is given to find an archive."""
        return name

    def create(self, name: str, *paths: str | Path) -> list[str | Path]:
        """Return the command line that makes an archive."""
        return ["borg", "create", "--compression", "none", self.archive(name), *paths]

    def paths(self, name: str) -> list[str]:
        """Return the archive's paths, byte for byte and in their order."""
        said = run("borg", "list", "--format", "{path}{NUL}", self.archive(name), env=self.env)
        return said.out.split("\0")[:-1]

    def contents(self, name: str) -> dict[str, str]:
        """Return the archive's regular files and what is in them."""
        return in_tar(run("borg", "export-tar", self.archive(name), "-", env=self.env))

    def delete(self, archive: str) -> None:
        """Remove an archive, and what only that had."""
        run("borg", "delete", self.archive(archive), env=self.env)
        run("borg", "compact", self.repository, env=self.env)

    def extract(self, name: str, into: Path) -> None:
        """Extract everything, with all that borg keeps of it."""
        run("borg", "extract", "--sparse", "--numeric-ids", self.archive(name), env=self.env, cwd=into)


@functools.cache
def empty_repository() -> Path:
    """Return the directory of a repository of borg's that nobody writes to."""
    directory = for_this_guest.directory("repository")
    borg = Borg(directory)
    run("borg", "init", "--encryption", "none", borg.repository, env=borg.env)
    return directory


@dataclass(frozen=True)
class Tar:
    """A directory for archives of GNU tar, for tests of what is saved: borg takes seconds to start in a guest."""

    directory: Path

    @classmethod
    def made(cls, directory: Path) -> Tar:
        """Make the directory."""
        directory.mkdir()
        return cls(directory)

    @property
    def env(self) -> dict[str, str]:
        """What tar has to find in its environment: nothing."""
        return {}

    def archive(self, name: str) -> str:
        """Return the path of an archive."""
        return str(self.directory / f"{name}.tar")

    known_as = archive

    def create(self, name: str, *paths: str | Path) -> list[str | Path]:
        """Return the command line that makes an archive."""
        return ["tar", "--create", "--file", self.archive(name), *paths]

    def extract(self, name: str, into: Path) -> None:
        """Extract everything, with its owners and times."""
        run("tar", "--extract", "--numeric-owner", "--file", self.archive(name), cwd=into)

    def delete(self, archive: str) -> None:
        """Remove an archive."""
        Path(self.archive(archive)).unlink()


@dataclass(frozen=True)
class Restic:
    """A repository of restic's, and its cache."""

    directory: Path

    @classmethod
    def made(cls, directory: Path) -> Restic:
        """Return a new repository: a copy of an empty one, which takes restic longer to make than a backup."""
        shutil.copytree(empty_of_restic(), directory)
        return cls(directory)

    @property
    def env(self) -> dict[str, str]:
        """Where restic finds its repository."""
        return {
            "RESTIC_REPOSITORY": str(self.directory / "repository"),
            "RESTIC_PASSWORD": "test",
            "RESTIC_CACHE_DIR": str(self.directory / "cache"),
            "TMPDIR": "/tmp",
        }

    def paths(self, snapshot: str = "latest") -> list[str]:
        """Return the snapshot's paths, in their order."""
        lines = run("restic", "ls", "--json", snapshot, env=self.env).out.splitlines()
        nodes = [json.loads(line) for line in lines]
        return [str(node["path"]) for node in nodes if node["struct_type"] == "node"]

    def contents(self, snapshot: str = "latest") -> dict[str, str]:
        """Return the snapshot's regular files and what is in them."""
        return in_tar(run("restic", "dump", snapshot, "/", env=self.env))

    def restore(self, into: Path, snapshot: str = "latest") -> None:
        """Restore everything below a directory."""
        run("restic", "restore", snapshot, "--target", into, env=self.env)


@functools.cache
def empty_of_restic() -> Path:
    """Return the directory of a repository of restic's that nobody writes to."""
    directory = for_this_guest.directory("restic")
    run("restic", "init", env=Restic(directory).env)
    return directory


def summary(said: Said) -> dict[str, Any]:
    """Return the last word of `restic backup --json`."""
    messages = [json.loads(line) for line in said.out.splitlines() if line.startswith("{")]
    found: dict[str, Any] = next(message for message in messages if message["message_type"] == "summary")
    return found


def in_tar(said: Said) -> dict[str, str]:
    """Return the regular files of a tar archive that a program wrote to its output."""
    with tarfile.open(fileobj=io.BytesIO(os.fsencode(said.out))) as archive:
        files = [(member.name, archive.extractfile(member)) for member in archive if member.isreg()]
        return {name: os.fsdecode(file.read()) for name, file in files if file}


def statuses(said: Said) -> dict[str, str]:
    """Return what `borg create --list` said of each path, one letter."""
    pairs = (line.split(" ", 1) for line in said.err.splitlines() if line[1:2] == " ")
    return {path: letter for letter, path in pairs}
