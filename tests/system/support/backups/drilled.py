"""Drills of what is on a volume: the backup command, the configuration, and what a drill has come to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.rig import Rig
from tests.system.support.backups.archives import Borg, Tar
from tests.system.support.runs import certificates
from tests.system.support.runs.live import assert_nothing_left
from tests.system.support.runs.program import Said, borg_lvm, run


@dataclass
class Drills:
    """A volume, archives of it, and a configuration of what is on it; `env` is what a program besides finds there."""

    rig: Rig
    data: Path
    applications: list[dict[str, Any]]
    archives: Tar | Borg
    env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def made(cls, rig: Rig, make: Callable[[Path], Tar | Borg] = Tar.made) -> Drills:
        """Make the volume, and a place for archives."""
        rig.directory.chmod(0o711)
        volume = rig.volume("data", fs="ext4", mib=96, at=rig.path("data"))
        assert volume.at
        rig.path("scratch").mkdir()
        return cls(rig, volume.at, [], make(rig.path("archives")))

    def command(self) -> list[str | Path]:
        """Return the backup command."""
        return self.archives.create("a", self.data)

    @property
    def environment(self) -> dict[str, str]:
        """What the backup program has to find there."""
        return {**self.archives.env, **self.env}

    def config(self) -> Path:
        """Write the configuration."""
        path = self.rig.path("config.yaml")
        path.write_text(yaml.safe_dump({"applications": self.applications}))
        return path

    def saved(self, command: list[str | Path]) -> None:
        """Have a run back it up."""
        borg_lvm("run", "--config", self.config(), "--", *command, env=self.environment)

    def drill(
        self, command: list[str | Path], *words: str, archive: str = "", status: int | None = 0, on_volume: bool = False
    ) -> Said:
        """Drill it, in a directory or on a new volume; in any case nothing is left of that."""
        scratch = self.rig.path("scratch")
        where: list[str | Path] = [] if on_volume else ["--scratch", scratch]
        where += ["--archive", self.archives.known_as(archive)] if archive else []
        argv: list[str | Path] = ["drill", "--config", self.config(), *where, *words, "--", *command]
        said = borg_lvm(*argv, env=self.environment, status=status)
        print(said.err)
        assert list(scratch.iterdir()) == []
        assert_nothing_left(self.rig)
        return said

    def spoiled(self, name: str, places: Sequence[Path], spoil: Callable[[Sequence[Path]], None]) -> None:
        """Save another archive, of the same paths: of what the archive `a` holds, made wrong.

        `spoil` gets the places where they were extracted.
        """
        spoiled(self.archives, self.rig.path("extracted"), ("a", name), places, spoil)


def spoiled(
    archives: Tar | Borg,
    directory: Path,
    names: tuple[str, str],
    places: Sequence[Path],
    spoil: Callable[[Sequence[Path]], None],
) -> None:
    """Make of an archive another one of the same paths, by their names; `spoil` gets the places as extracted."""
    first, name = names
    directory.mkdir()
    archives.extract(first, directory)
    extracted = [directory / path.relative_to("/") for path in places]
    spoil(extracted)
    binds = [f"mount --bind {one} {path}" for one, path in zip(extracted, places, strict=True)]
    seen = "\n".join([*binds, 'exec "$@"'])
    run("unshare", "--mount", "sh", "-ec", seen, "sh", *archives.create(name, *places), env=archives.env)
    shutil.rmtree(directory)


def verdicts(said: Said) -> dict[str, str]:
    """Return what the last drill has come to, by application, as its certificate and its last lines say."""
    made = certificates.of_last_drill()
    assert all(f"{one['verdict']} " in said.err for one in made["applications"])
    return {one["name"]: one["verdict"] for one in made["applications"]}
