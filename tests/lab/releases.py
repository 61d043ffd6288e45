"""Programs of other releases of Debian, unpacked below ``.lab/``: for the soak, which tries what this one has not.

They change from day to day, so nothing of the ordinary tests depends on them. Each is started by a small script of its
name, with the libraries of its own release; nothing is installed on the host.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.archive import Archive
from tests.lab.paths import LAB, locked

TREES = LAB / "releases"
LEFT_OUT = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./dev")
PYTHON = "usr/bin/python3"
MODULES = ("borgbackup2", "python3/dist-packages")
"""Where a program in Python finds its modules, below usr/lib."""


@dataclass(frozen=True)
class Release:
    """A release: what is taken of it, and the programs that get a script, by name."""

    packages: tuple[str, ...]
    programs: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


RELEASES = {
    # Has MySQL, which no stable release has, and the newest of everything.
    "sid": Release(
        ("mysql-server-core", "mysql-client-core", "restic", "borgbackup2", "valkey-server"),
        {
            "mysqld": "usr/sbin/mysqld",
            "mysql": "usr/bin/mysql",
            "mysqlbinlog": "usr/bin/mysqlbinlog",
            "restic": "usr/bin/restic",
            "borg2": f"{PYTHON} -m borg",
            "valkey-server": "usr/bin/valkey-server",
            "valkey-cli": "usr/bin/valkey-cli",
            "valkey-check-rdb": "usr/bin/valkey-check-rdb",
        },
    ),
    # Has PostgreSQL 13, whose functions for backups have other names. Its programs start each other, so they run with
    # this machine's loader, which is newer, and must not find the other C library.
    "bullseye": Release(("postgresql-13",), left_out=("libc6", "libc-bin", "libgcc-s1", "libstdc++6")),
}


def tree(name: str) -> Path:
    """Return the directory that a release is unpacked in. Errors: LookupError when it is not there."""
    if not (TREES / name / "stamp").is_file():
        raise LookupError(f"{TREES / name} is not there: make releases")
    return TREES / name


def program(release: str, name: str) -> Path:
    """Return what to start for a program of a release. Errors: as `tree`."""
    return tree(release) / "run" / name


def fetch(name: str) -> None:
    """Fetch a release's packages, and all that they depend on, as apt would install them on an empty machine."""
    release = RELEASES[name]
    target = TREES / name
    with locked("releases"):
        if (target / "stamp").is_file() and (target / "stamp").read_text() == repr(release):
            return
        print(f"lab: fetching {', '.join(release.packages)} of Debian's release {name}", flush=True)
        building = TREES / f"{name}.building"
        shutil.rmtree(building, ignore_errors=True)
        for archive in Archive(name, building / "apt").closure(*release.packages):
            if archive.name.partition("_")[0] not in release.left_out:
                _unpack(archive, building)
        shutil.rmtree(building / "apt")
        shutil.rmtree(target, ignore_errors=True)
        building.rename(target)
        _scripts(target, release.programs)
        (target / "stamp").write_text(repr(release))


def _unpack(archive: Path, target: Path) -> None:
    packed = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE)
    left_out = [f"--exclude={path}" for path in LEFT_OUT]
    # A release's /bin and /lib are links to /usr's, which dpkg, unlike tar, would follow.
    subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", target, *left_out], stdin=packed.stdout, check=True)
    if packed.wait():
        raise subprocess.CalledProcessError(packed.returncode, "dpkg-deb")


def _scripts(target: Path, programs: Mapping[str, str]) -> None:
    """Write a script for each program. The kernel takes a process's name from the loader's, hence the links to it."""
    (target / "run" / "as").mkdir(parents=True)
    for name, command in programs.items():
        (libraries,) = (target / "usr" / "lib").glob("*-linux-gnu")
        (target / "run" / "as" / name).symlink_to(next((target / "usr").glob("lib*/ld-linux-*.so.*")))
        words = [str(target / "run" / "as" / name), "--library-path", str(libraries)]
        first, *others = command.split()
        words += [str(target / first), *others]
        lines = ["#!/bin/sh"]
        if command.startswith(PYTHON):
            lines += [f"export PYTHONHOME={shlex.quote(str(target / 'usr'))}"]
            directories = ":".join(str(target / "usr" / "lib" / path) for path in MODULES)
            lines += [f"export PYTHONPATH={shlex.quote(directories)}"]
        script = target / "run" / name
        script.write_text("\n".join([*lines, f'exec {shlex.join(words)} "$@"', ""]))
        script.chmod(0o755)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or RELEASES:
        fetch(wanted)
