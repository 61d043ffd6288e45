"""Gets a fresh Debian ready for the tests: packages, virtual environment, kernels. Quick when nothing is to be done.

What apt and pip have to say goes into a log; it is named, and its end shown, if one of them fails.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.lab.initramfs import initramfs
from tests.lab.kernels import SERIES, kernel
from tests.lab.paths import CHECKOUT, LAB, locked

VENV = CHECKOUT / ".venv"
WHEELS = VENV / "wheels"
SOURCES = VENV / "sources"
LOG = LAB / "setup.log"
POLICY = Path("/usr/sbin/policy-rc.d")
CLUSTERS = Path("/etc/postgresql-common/createcluster.d/borg-lvm-lab.conf")
SHOWN = 15  # lines of the log's end that a failure shows


def packages() -> None:
    """Install what is missing of packages.txt, and nothing that is merely recommended."""
    lines = (Path(__file__).with_name("packages.txt")).read_text().splitlines()
    wanted = [name for line in lines if (name := line.partition("#")[0].strip())]
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *wanted]
    known = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    missing = sorted(set(wanted) - {line.split()[1] for line in known if line.startswith("installed ")})
    if not missing:
        return
    print(f"setup: installing {len(missing)} Debian packages", flush=True)
    if os.geteuid() != 0:
        sys.exit("setup: only root can install packages")
    logged(["apt-get", "update"])
    with no_daemons():
        logged(["apt-get", "install", "-y", "--no-install-recommends", *missing])


@contextmanager
def no_daemons() -> Iterator[None]:
    """Keep packages from starting the daemons that they bring, and PostgreSQL's from making a cluster.

    Source: Debian's invoke-rc.d(8), which asks policy-rc.d; 101 forbids. pg_createcluster(1).
    """
    with ExitStack() as stack:
        if not POLICY.exists():
            POLICY.write_text("#!/bin/sh\nexit 101\n")
            POLICY.chmod(0o755)
            stack.callback(POLICY.unlink)
        if not CLUSTERS.exists():
            CLUSTERS.parent.mkdir(parents=True, exist_ok=True)
            CLUSTERS.write_text("create_main_cluster = false\n")
        yield


def environment() -> None:
    """Make ``.venv`` with the test extra, again only when pyproject.toml or the Python has changed."""
    copied = [CHECKOUT / "pyproject.toml", *sorted((CHECKOUT / "bin").iterdir())]  # all else is used where it is
    inputs = b"".join(path.read_bytes() for path in copied) + sys.version.encode()
    key = hashlib.sha256(inputs).hexdigest()
    stamp = VENV / "stamp"
    if stamp.is_file() and stamp.read_text() == key:
        return
    print("setup: making .venv, with a borg that is built from source", flush=True)
    if not (VENV / "bin" / "python").exists() or stamp.is_file():
        shutil.rmtree(VENV, ignore_errors=True)
        logged([sys.executable, "-m", "venv", str(VENV)])
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]
    logged([*pip, "-e", f"{CHECKOUT}[test]"])
    stamp.write_text(key)


def wheels() -> None:
    """Fetch what `pip install .` takes from PyPI: a guest, in which it is tried, has no network."""
    if WHEELS.is_dir():
        return
    described = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    needed = [*described["build-system"]["requires"], "wheel", *described["project"]["dependencies"]]
    print("setup: fetching what an installation needs", flush=True)
    half = WHEELS.with_suffix(".half")
    logged([str(VENV / "bin" / "python"), "-m", "pip", "download", "--quiet", "--dest", str(half), *needed])
    half.rename(WHEELS)


def sources() -> None:
    """Fetch the source of the borgmatic that is installed: the unit that its users are told to copy is only there."""
    (found,) = VENV.glob("lib/python3*/site-packages/borgmatic-*.dist-info")
    version = found.name.removesuffix(".dist-info").removeprefix("borgmatic-")
    if (SOURCES / f"borgmatic-{version}.tar.gz").exists():
        return
    print(f"setup: fetching the source of borgmatic {version}", flush=True)
    shutil.rmtree(SOURCES, ignore_errors=True)
    which = ["--no-deps", "--no-binary=borgmatic", f"borgmatic=={version}"]
    logged([str(VENV / "bin" / "python"), "-m", "pip", "download", "--quiet", "--dest", str(SOURCES), *which])


def logged(command: Sequence[str]) -> None:
    """Run a command whose output is of interest only if it fails."""
    with LOG.open("a") as log:
        log.write(f"\n$ {shlex.join(command)}\n")
        log.flush()
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=quiet, check=False)
    if done.returncode:
        end = "\n".join(f"  {line}" for line in LOG.read_text(errors="replace").splitlines()[-SHOWN:])
        sys.exit(f"setup: {command[0]} failed with status {done.returncode}; the whole log is {LOG}, its end:\n{end}")


def main() -> None:
    """Do all of it, with the kernels of the series that are named."""
    with locked("setup"):
        LOG.unlink(missing_ok=True)
        packages()
        environment()
        wheels()
        sources()
    for series in sys.argv[1:] or SERIES:
        initramfs(kernel(series))


if __name__ == "__main__":
    main()
