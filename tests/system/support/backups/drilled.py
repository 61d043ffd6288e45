"""Drills of what is on a volume: the backup command, the configuration, and what a drill has come to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.rig import Rig
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.live import assert_nothing_left
from tests.system.support.runs.program import Said, borg_lvm, run


@dataclass
class Drills:
    """A volume, a command that backs it up, and a configuration of what is on it."""

    rig: Rig
    data: Path
    applications: list[dict[str, Any]]
    env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def made(cls, rig: Rig, *applications: dict[str, Any]) -> Drills:
        """Make the volume and the repository."""
        rig.directory.chmod(0o711)
        volume = rig.volume("data", fs="ext4", mib=96, at=rig.path("data"))
        assert volume.at
        rig.path("scratch").mkdir()
        return cls(rig, volume.at, list(applications))

    def command(self, *words: str | Path) -> list[str | Path]:
        """Return the backup command."""
        if not self.rig.path("borg").exists():
            Borg.made(self.rig.path("borg"))
        return ["borg", "create", *words, self.borg.archive("a"), self.data]

    @property
    def borg(self) -> Borg:
        """The repository."""
        return Borg(self.rig.path("borg"))

    @property
    def environment(self) -> dict[str, str]:
        """What the backup program has to find there: borg, and another one by `env`."""
        return {**self.borg.env, **self.env}

    def config(self) -> Path:
        """Write the configuration."""
        path = self.rig.path("config.yaml")
        path.write_text(yaml.safe_dump({"applications": self.applications}))
        return path

    def saved(self, command: list[str | Path]) -> None:
        """Have a run back it up."""
        borg_lvm("run", "--config", self.config(), "--", *command, env=self.environment)

    def drill(self, command: list[str | Path], *words: str | Path, status: int = 0, on_volume: bool = False) -> Said:
        """Drill it, in a directory or on a new volume; in any case nothing is left of that."""
        scratch = self.rig.path("scratch")
        where: list[str | Path] = [] if on_volume else ["--scratch", scratch]
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
        folder = self.rig.path("extracted")
        folder.mkdir()
        self.borg.extract("a", folder)
        extracted = [folder / path.relative_to("/") for path in places]
        spoil(extracted)
        binds = " && ".join(f"mount --bind {one} {path}" for one, path in zip(extracted, places, strict=True))
        create = ["borg", "create", self.borg.archive(name), *map(str, places)]
        run("unshare", "--mount", "sh", "-c", f'{binds} && exec "$@"', "sh", *create, env=self.borg.env)
        shutil.rmtree(folder)


def verdicts(said: Said) -> dict[str, str]:
    """Return what the last drill has come to, by application, as its certificate and its last lines say."""
    made = json.loads(borg_lvm("report", "--drill", "--json").out)
    assert all(f"{one['verdict']} " in said.err for one in made["applications"])
    return {one["name"]: one["verdict"] for one in made["applications"]}
