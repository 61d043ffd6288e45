"""Builds the Debian package, and tries it, in bare systems: ``python -m tests.lab.debs [--try] RELEASE…``.

Each release has its own: paths of units, and what its tools make of the same sources, differ. The package is left in
``dist/RELEASE``. What is installed to build it is kept in an archive, until packaging/debian/control changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import fresh
from tests.lab.paths import CHECKOUT, locked

RELEASES = ("bookworm", "trixie")
PACKAGING = CHECKOUT / "packaging" / "debian"
DIST = CHECKOUT / "dist"
BUILD = "build/borg-lvm"
TRIALS = (Path(__file__).parent / "deb-trial.sh", Path(__file__).parent / "ansible-trial.sh")
PREPARE = """
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends dpkg-dev lintian man-db >/dev/null
cd /build/borg-lvm
apt-get build-dep -qq ./ >/dev/null
"""
MAKE = """
cd /build/borg-lvm
dpkg-buildpackage --build=binary --no-sign
lintian --allow-root --fail-on=error,warning --display-info --tag-display-limit=0 ../*.changes
"""


class DebError(Exception):
    """A step in a bare system failed; says which."""


def build(release: str) -> Path:
    """Build the package of a release, with no complaint of lintian's; returns where it is. Raises: DebError."""
    root = fresh.FRESH / f"build-{release}"
    with_tools(release, root)
    _copy_sources(root)
    run(root, MAKE, f"{release}: building the package")
    (made,) = (root / "build").glob("*.deb")
    target = DIST / release / made.name
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir(parents=True)
    shutil.copy(made, target)
    shutil.rmtree(root)
    return target


def with_tools(release: str, root: Path) -> None:
    """Make a system that has what builds the package. Raises: DebError."""
    tools = fresh.FRESH / f"{release}-tools.tar"
    stamp = tools.with_suffix(".key")
    key = hashlib.sha256((PACKAGING / "control").read_bytes() + PREPARE.encode()).hexdigest()
    if tools.is_file() and stamp.is_file() and stamp.read_text() == key:
        fresh.unpack(tools, root)
        return
    fresh.unpack(fresh.bare(release, f"{fresh.BARE},{fresh.PYTHON}"), root)
    _copy_sources(root)
    run(root, PREPARE, f"{release}: installing what builds the package")
    shutil.rmtree(root / "build")
    fresh.pack(root, tools)
    stamp.write_text(key)


def attempt(release: str, package: Path) -> None:
    """Install the package in a bare system, use it, upgrade, remove and purge it; in another, have Ansible do so.

    Raises: DebError.
    """
    for trial in TRIALS:
        root = fresh.FRESH / f"trial-{release}"
        fresh.unpack(fresh.bare(release, f"{fresh.BARE},{fresh.PYTHON}"), root)
        shutil.copy(package, root / "root")
        shutil.copy(trial, root / "root" / "trial.sh")
        shutil.copytree(CHECKOUT / "contrib", root / "root" / "contrib")
        run(root, f"sh /root/trial.sh {package.name}", f"{release}: trying the package: {trial.name}")
        shutil.rmtree(root)


def _copy_sources(root: Path) -> None:
    fresh.copy_checkout(root / BUILD)
    shutil.copytree(PACKAGING, root / BUILD / "debian")


def run(root: Path, script: str, what: str) -> None:
    """Run a shell's script in a bare system. Raises: DebError."""
    print(f"debs: {what}", flush=True)
    done = subprocess.run(fresh.inside(root, script), stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise DebError(f"{what}: failed with status {done.returncode}")


def main() -> int:
    """Build, and try, what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.debs", description=__doc__)
    parser.add_argument("releases", nargs="*", default=RELEASES, metavar="RELEASE", help="bookworm, trixie …")
    parser.add_argument("--try", action="store_true", dest="tried", help="install, upgrade and purge it, too")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("debs: only root can make and enter a bare system")
    try:
        with locked("fresh"):
            for release in options.releases:
                package = build(release)
                if options.tried:
                    attempt(release, package)
                print(f"debs: {release}: {package.relative_to(CHECKOUT)}: {package.stat().st_size} bytes", flush=True)
    except DebError as error:
        sys.exit(f"debs: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
