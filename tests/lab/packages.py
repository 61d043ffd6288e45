"""Installs Debian packages that the tests need, and leaves the machine's services as they were.

Source: apt-get(8), invoke-rc.d(8) for policy-rc.d, pg_createcluster(1), systemctl(1).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.log import logged
from tests.lab.needs import Need, machine, of_stage

OURS = "# made by borg-lvm's set-up, which removes it when the packages are installed\n"
POLICY = Path("/usr/sbin/policy-rc.d")
CLUSTERS = Path("/etc/postgresql-common/createcluster.d/borg-lvm.conf")
UNITS = Path("/etc/systemd/system")
PLAIN = {**os.environ, "LC_ALL": "C"}
APT = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
"""Somebody else, such as unattended-upgrades, may install something just now."""


def install(stage: str) -> None:
    """Install what a stage needs and is not there. What the archives do not have is named, and its tests are skipped.

    Raises: SystemExit in one line if this machine cannot install anything.
    """
    absent = [need for need in of_stage(stage) if not need.present]
    if not absent:
        return
    names = " ".join(need.packages[0] for need in absent)
    if shutil.which("apt-get") is None:
        sys.exit(f"setup: {machine()} has no apt: make needs Debian 12 or newer, or these installed by hand: {names}")
    if os.geteuid() != 0:
        sys.exit(f"setup: only root can install these Debian packages: {names}")
    logged([*APT, "update"])
    offered = _offered([package for need in absent for package in need.packages])
    wanted = sorted({package for need in absent if (package := choice(need, offered))})
    for need in absent:
        if not choice(need, offered):
            print(f"setup: {machine()} does not offer {' or '.join(need.packages)}: tests that need it are skipped")
    if wanted:
        _announce(wanted)
        with _no_services():
            logged([*APT, "install", "-y", "--no-install-recommends", *wanted])


def install_one(program: str, package: str) -> None:
    """Install a package for its program, which only a developer needs. Raises: SystemExit."""
    if shutil.which(program) is None:
        logged([*APT, "install", "-y", "--no-install-recommends", package])


def choice(need: Need, offered: set[str]) -> str:
    """Return the package to install for a need; empty if none is offered."""
    return next((package for package in need.packages if package in offered), "")


def _offered(packages: Sequence[str]) -> set[str]:
    query = ["apt-cache", "policy", *packages]
    return candidates(subprocess.run(query, capture_output=True, text=True, check=True, env=PLAIN).stdout)


def candidates(policy: str) -> set[str]:
    """Return the packages that can be installed, of what `apt-cache policy` says."""
    found = re.findall(r"^(\S+):\n(?:  .*\n)*?  Candidate: (.*)$", policy, re.MULTILINE)
    return {package for package, candidate in found if candidate != "(none)"}


def _announce(wanted: Sequence[str]) -> None:
    """Say what will be installed, and how large it is, before it is done."""
    ask = ["apt-get", "install", "--assume-no", "--no-install-recommends", *wanted]
    said = subprocess.run(ask, capture_output=True, text=True, check=False, env=PLAIN).stdout
    sizes = re.findall(r"^(?:Need to get|After this operation,) ([0-9.,]+ .?B)", said, re.MULTILINE)
    new = re.search(r"(\d+) newly installed", said)
    counted = f"{new[1]} with their dependencies" if new else "with their dependencies"
    size = f"; {sizes[0]} to fetch, {sizes[-1]} on disk" if sizes else ""
    print(f"setup: installing {len(wanted)} Debian packages ({counted}{size}), without starting any service:")
    line = "setup:  "
    for package in wanted:
        if len(line) + len(package) > 100:
            print(line)
            line = "setup:  "
        line += f" {package}"
    print(line, flush=True)


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages from starting services, now or at the next boot, and PostgreSQL's from making a cluster.

    All is undone afterwards; what a killed set-up has left is recognized by its first lines and removed by the next.
    """
    before = _enabled()
    made = [path for path, text in _obstacles().items() if _make(path, text)]
    try:
        yield
    finally:
        for path in made:
            path.unlink(missing_ok=True)
        _disable(sorted(_enabled() - before))


def _obstacles() -> dict[Path, str]:
    return {
        POLICY: f"#!/bin/sh\n{OURS}exit 101\n",  # "action forbidden by policy"
        CLUSTERS: f"{OURS}create_main_cluster = false\n",
    }


def _make(path: Path, text: str) -> bool:
    """Write a file that is not there, or is left over from an earlier set-up; somebody else's stays as it is."""
    if path.exists() and OURS not in path.read_text(errors="replace"):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return True


def _enabled() -> set[str]:
    """Return the units that systemd would start at boot, or for somebody who connects."""
    return {link.name for link in UNITS.glob("*.wants/*") if link.is_symlink()}


def _disable(units: Sequence[str]) -> None:
    """Disable what a package has enabled: the tests start what they want by themselves."""
    if units and shutil.which("systemctl"):
        logged(["systemctl", "--root=/", "disable", *units])
