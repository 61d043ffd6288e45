"""Makes a release in two steps, each a command of its own.

``python -m tests.release version 1.2.3`` writes the version wherever it stands, makes a section of CHANGELOG.md of the
fragments, commits and tags: ``v1.2.3``. ``python -m tests.release make`` builds from that tag into ``dist/release``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from tests.lab import debs, rpms, tools
from tests.lab.log import logged
from tests.lab.paths import CHECKOUT, locked
from tests.release import bill, build, versions
from tests.release.build import ReleaseError
from tests.release.refusals import git, look, refusals

TARGET = CHECKOUT / "dist" / "release"
VALID = (
    "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator;"
    "found = JsonStrictValidator(SchemaVersion.V1_5).validate_str(sys.stdin.read()); sys.exit(found and str(found))"
)


def set_version(version: str) -> None:
    """Prepare, commit and tag a release. Raises: ReleaseError."""
    if not versions.VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is no version: three numbers are, as 1.2.3")
    seen = look(CHECKOUT)
    if seen.changed:
        raise ReleaseError(f"commit or undo first what is changed: {', '.join(seen.changed)}")
    if git(CHECKOUT, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"there is a tag v{version}: a release is made once")
    now = datetime.now(UTC)
    towncrier = tools.programs("release") / "towncrier"
    logged(
        [str(towncrier), "build", "--yes", "--dir", str(CHECKOUT), "--version", version, "--date", f"{now:%Y-%m-%d}"]
    )
    versions.write(CHECKOUT, version, format_datetime(now))
    git(CHECKOUT, "add", "--all")
    git(CHECKOUT, "commit", "--quiet", "--message", f"release {version}")
    git(CHECKOUT, "tag", "--annotate", "--message", f"borg-lvm {version}", f"v{version}")
    print(f"release: committed and tagged v{version}; look at it (git show), then: make release", flush=True)


def make(releases: list[str], *, rpm: bool) -> None:
    """Build everything of the tag that this commit has. Raises: ReleaseError, DebError."""
    if found := refusals(look(CHECKOUT)):
        raise ReleaseError("nothing is released:\n" + "\n".join(f"  {one}" for one in found))
    at = build.epoch(CHECKOUT)
    shutil.rmtree(TARGET, ignore_errors=True)
    files = build.distributions(CHECKOUT, TARGET, at)
    for release in releases:
        files.append(_package(release))
    if rpm:
        files += rpms.build(files[0], at, TARGET)
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    files.append(_bill(project, files, at))
    sums = "".join(f"{build.digest(path)}  {path.name}\n" for path in files)
    (TARGET / "SHA256SUMS").write_text(sums)
    print(sums + f"release: {len(files)} files in {TARGET.relative_to(CHECKOUT)}; sdist, wheel and Debian packages "
          "were built twice, with the same bytes", flush=True)  # fmt: skip


def _package(release: str) -> Path:
    """Build Debian's package twice. Raises: ReleaseError, DebError."""
    made = debs.build(release)
    version = made.name.removeprefix("borg-lvm_").removesuffix("_all.deb")
    kept = Path(shutil.copy(made, TARGET / f"borg-lvm_{version}_{release}_all.deb"))
    again = debs.build(release)
    if build.digest(kept) != build.digest(again):
        raise ReleaseError(f"a second build of {kept.name} has other bytes")
    return kept


def _bill(project: dict[str, object], files: list[Path], at: int) -> Path:
    """Write the bill of materials, which a validator of the format's own accepts. Raises: ReleaseError."""
    text = json.dumps(bill.bill(project, {path.name: build.digest(path) for path in files}, at), indent=2) + "\n"
    python = tools.programs("release") / "python"
    done = subprocess.run([python, "-c", VALID], input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise ReleaseError(f"the bill of materials is not valid: {done.stderr}")
    path = TARGET / f"borg-lvm-{project['version']}.cdx.json"
    path.write_text(text)
    return path


def main() -> int:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("version").add_argument("version", metavar="X.Y.Z")
    building = commands.add_parser("make")
    building.add_argument("releases", nargs="*", default=[], metavar="RELEASE", help="of Debian, a package for each")
    building.add_argument("--rpm", action="store_true", help="an RPM package, too")
    options = parser.parse_args()
    try:
        if options.command == "version":
            set_version(options.version)
        elif (options.releases or options.rpm) and os.geteuid() != 0:
            raise ReleaseError("only root can make the bare systems in which packages are built")
        else:
            with locked("fresh"):
                make(options.releases, rpm=options.rpm)
    except (ReleaseError, debs.DebError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
