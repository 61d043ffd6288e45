"""The real borgmatic with a repository of its own: its configurations, and what comes of its runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.system.support.backups.archives import Borg
from tests.system.support.runs.gate import Gate
from tests.system.support.runs.program import BIN, Said, environment, run

BORGMATIC = BIN / "borgmatic"

# The gate is for the borg that saves: borgmatic asks for the version, and tries what it is about to do, before that.
ALL_BUT_CREATE = """\
case "$* " in
    create*--dry-run\\ *) exec {real} "$@" ;;
    create*) ;;
    *) exec {real} "$@" ;;
esac
"""


def saving(directory: Path) -> Gate:
    """Return a gate before which only the borg that saves stands."""
    real = shutil.which("borg", path=environment()["PATH"])
    assert real
    return Gate(directory, "borg", ALL_BUT_CREATE.format(real=shlex.quote(real)))


@dataclass(frozen=True)
class Borgmatic:
    """Borgmatic with a home and a runtime directory of its own, all in one directory that is not frozen."""

    directory: Path
    borg: Borg

    @classmethod
    def made(cls, directory: Path) -> Borgmatic:
        """Make the directories and a repository that is not encrypted."""
        for name in ("home", "runtime"):
            (directory / name).mkdir(parents=True)
        return cls(directory, Borg.made(directory / "borg"))

    @property
    def env(self) -> dict[str, str]:
        """What borgmatic has to find in its environment."""
        return self.borg.env | {
            "HOME": str(self.directory / "home"),
            "XDG_RUNTIME_DIR": str(self.directory / "runtime"),
        }

    def configured(
        self, sources: Sequence[Path | str], more: Mapping[str, object] | None = None, name: str = "config"
    ) -> Path:
        """Write a configuration, and return its path; JSON is YAML."""
        path = self.directory / f"{name}.yaml"
        settings: dict[str, object] = {
            "source_directories": [str(source) for source in sources],
            "repositories": [{"path": str(self.borg.repository)}],
            "archive_name_format": f"{name}-{{now:%H%M%S%f}}",
            "unknown_unencrypted_repo_access_is_ok": True,
            "relocated_repo_access_is_ok": True,
            **(more or {}),
        }
        path.write_text(json.dumps(settings))
        path.chmod(0o600)
        return path

    def gate(self, name: str = "gate") -> Gate:
        """Return a gate for `local_path`, before which only the borg that saves stands."""
        return saving(self.directory / name)

    def create(
        self, config: Path, *before: str | Path, status: int | None = 0, env: Mapping[str, str] | None = None
    ) -> Said:
        """Run `borgmatic create`, behind other words if there are any; what it lists is in what it says."""
        words = (*before, BORGMATIC, "--config", config, "create", "-v", "1", "--list")
        return run(*words, status=status, env=self.env | dict(env or {}))

    def archives(self) -> list[str]:
        """Return the names of all archives, the oldest first."""
        return run("borg", "list", "--short", self.borg.repository, env=self.borg.env).out.split()

    def files(self, archive: str) -> dict[str, str]:
        """Return the regular files of the last archive whose name begins so, and what is in them."""
        return self.borg.contents([name for name in self.archives() if name.startswith(archive)][-1])


def letters(said: Said, below: Path | str) -> dict[str, str]:
    """Return what borg has said of each path below another, one letter; wherever a snapshot of that path was mounted.

    borgmatic lists what borg has read, not what the files cache knew.
    """
    found = {}
    for line in (said.out + said.err).splitlines():
        matched = re.fullmatch(f"(?:.*: )?([AMUECx-]) .*{re.escape(str(below))}/(.*)", line)
        if matched:
            found[matched[2]] = matched[1]
    return found
