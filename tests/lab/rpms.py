"""Builds the RPM package from a source distribution, in a bare Debian: ``python -m tests.lab.rpms [SDIST]``.

rpmbuild and rpmlint are Debian's. Nobody has installed the package on Fedora, whose Python, paths of modules and names
of packages may be others.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.lab import debs, fresh
from tests.lab.paths import CHECKOUT, locked

RELEASE = "trixie"
"""Its setuptools knows pyproject.toml as it is."""
SPEC = CHECKOUT / "packaging" / "rpm" / "borg-lvm.spec"
LINT = CHECKOUT / "packaging" / "rpm" / "rpmlint.toml"
MAKE = """
export DEBIAN_FRONTEND=noninteractive SOURCE_DATE_EPOCH=%(epoch)d
apt-get update -qq
apt-get install -qq --no-install-recommends rpm rpmlint python3-build python3-installer python3-wheel >/dev/null
cd /build
rpmbuild --nodeps -ba --define '_topdir /build' --define '_sourcedir /build' --define '_buildhost localhost' \
  --define 'use_source_date_epoch_as_buildtime 1' --define 'build_mtime_policy clamp_to_source_date_epoch' \
  borg-lvm.spec >build.log 2>&1 || { tail -n 40 build.log; exit 1; }
rpmlint --strict --config rpmlint.toml borg-lvm.spec RPMS/noarch/*.rpm SRPMS/*.rpm
! rpm -qp --requires RPMS/noarch/*.rpm | grep /usr/local
"""
"""The names of BuildRequires are Fedora's, which Debian's rpm does not find: hence --nodeps."""


def build(sdist: Path, epoch: int, target: Path) -> list[Path]:
    """Build the packages of a source distribution into a directory, with no complaint of rpmlint's.

    `epoch`: what they have as their time, in seconds. Raises: DebError.
    """
    root = fresh.FRESH / "build-rpm"
    debs.with_tools(RELEASE, root)
    place = root / "build"
    place.mkdir()
    for path in (sdist, SPEC, LINT):
        shutil.copy(path, place)
    debs.run(root, MAKE % {"epoch": epoch}, "building the RPM package")
    target.mkdir(parents=True, exist_ok=True)
    made = [Path(shutil.copy(path, target)) for path in sorted(place.glob("*RPMS/**/*.rpm"))]
    shutil.rmtree(root)
    return made


def main() -> int:
    """Build them from the source distribution that is named, or from one of this checkout."""
    from tests.release import build as release

    if os.geteuid() != 0:
        sys.exit("rpms: only root can make and enter a bare system")
    epoch = release.epoch(CHECKOUT)
    try:
        with locked("fresh"):
            sdist = Path(sys.argv[1]) if sys.argv[1:] else release.sdist(CHECKOUT, CHECKOUT / "dist", epoch)
            made = build(sdist, epoch, CHECKOUT / "dist" / "rpm")
    except (debs.DebError, release.ReleaseError) as error:
        sys.exit(f"rpms: {error}")
    for path in made:
        print(f"rpms: {path.relative_to(CHECKOUT)}: {path.stat().st_size} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
