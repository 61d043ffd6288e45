"""Fetches packages of other releases of Debian, with a state of apt's own; nothing is installed on the host."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.log import logged
from tests.lab.needs import machine, os_release

KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class ArchiveError(Exception):
    """A package is not available; says why in a line."""


def codename() -> str:
    """Return the name of the Debian release that this machine runs; empty where it is no release of Debian."""
    try:
        said = os_release()
    except OSError:
        return ""
    return said.get("VERSION_CODENAME", "") if said.get("ID") == "debian" else ""


class Archive:
    """The archive of a release, as apt sees it: this machine's own apt, or one that knows another release alone.

    So it is with another component than `main`, too. What is not signed by Debian is refused.
    """

    def __init__(self, release: str, directory: Path, *, component: str = "main") -> None:
        """Make apt's state in `directory`. Raises: ArchiveError."""
        self._environment = dict(os.environ)
        self._directory = directory
        if shutil.which("apt-get") is None:
            raise ArchiveError(f"Debian's apt fetches it, and {machine()} has none")
        if release == codename() and component == "main":
            if os.geteuid() == 0:
                logged(["apt-get", "update"])
            return
        if not KEYS.exists():
            raise ArchiveError(f"Debian's keys are not on this machine ({KEYS}: package debian-archive-keyring)")
        place = mirror()
        if not place:
            raise ArchiveError(f"Debian's release {release} is not available: apt has no archive of Debian's")
        self._environment["APT_CONFIG"] = str(
            _configured(directory, f"deb [signed-by={KEYS}] {place} {release} {component}")
        )
        logged(["apt-get", "update"], self._environment)

    def names(self, prefix: str) -> list[str]:
        """Return the names of all packages that begin so."""
        query = ["apt-cache", "pkgnames", prefix]
        done = subprocess.run(query, check=True, capture_output=True, text=True, env=self._environment)
        return done.stdout.split()

    def download(self, target: Path, *packages: str) -> list[Path]:
        """Fetch these packages alone into an empty directory."""
        target.mkdir(parents=True, exist_ok=True)
        logged(["sh", "-c", 'cd "$1" && shift && exec apt-get download "$@"', "sh", str(target), *packages],
               self._environment)  # fmt: skip
        return sorted(target.glob("*.deb"))

    def closure(self, *packages: str) -> list[Path]:
        """Fetch these packages and all that they depend on, as apt would install them on an empty machine."""
        logged(["apt-get", "--yes", "--no-install-recommends", "--download-only", "install", *packages],
               self._environment)  # fmt: skip
        return sorted((self._directory / "cache" / "archives").glob("*.deb"))


def _configured(directory: Path, source: str) -> Path:
    """Write the configuration of an apt that knows nothing of this machine but its keys."""
    for path in ("lists/partial", "cache/archives/partial"):
        (directory / path).mkdir(parents=True, exist_ok=True)
    (directory / "status").touch()
    (directory / "sources").write_text(source + "\n")
    where = {"State": directory, "State::lists": directory / "lists", "State::status": directory / "status"}
    where |= {
        "Cache": directory / "cache",
        "Etc::SourceList": directory / "sources",
        "Etc::SourceParts": Path("/dev/null"),
    }
    own = directory / "apt.conf"
    lines = [f'Dir::{key} "{value}";' for key, value in where.items()]
    # apt's own sandbox user cannot write here; and only the list of packages is wanted.
    lines += ['APT::Sandbox::User "root";', 'Acquire::Languages "none";']
    own.write_text("\n".join(lines) + "\n")
    return own


def mirror() -> str:
    """Return where this machine has its own Debian from; empty if it has none."""
    query = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"]
    query += ["Created-By: Packages", "Origin: Debian", "Component: main"]
    said = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    found = [line.split() for line in said.splitlines()]
    return next((place for name, place in found if "-" not in name), "")
