"""Gets a fresh Debian ready for the tests: packages, virtual environment, kernels. Quick when nothing is to be done."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.initramfs import initramfs
from tests.lab.kernels import SERIES, kernel
from tests.lab.paths import CHECKOUT, locked

VENV = CHECKOUT / ".venv"


def packages() -> None:
    """Install what is missing of packages.txt, and nothing that is merely recommended."""
    lines = (Path(__file__).with_name("packages.txt")).read_text().splitlines()
    wanted = [name for line in lines if (name := line.partition("#")[0].strip())]
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *wanted]
    known = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    missing = sorted(set(wanted) - {line.split()[1] for line in known if line.startswith("installed ")})
    if not missing:
        return
    print("setup: installing", *missing, flush=True)
    if os.geteuid() != 0:
        sys.exit("setup: only root can install packages")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=True)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    subprocess.run(install, env=quiet, check=True, stdout=subprocess.DEVNULL)


def environment() -> None:
    """Make ``.venv`` with the test extra, again only when pyproject.toml or the Python has changed."""
    inputs = (CHECKOUT / "pyproject.toml").read_bytes() + sys.version.encode()
    key = hashlib.sha256(inputs).hexdigest()
    stamp = VENV / "stamp"
    if stamp.is_file() and stamp.read_text() == key:
        return
    print("setup: making .venv", flush=True)
    if not (VENV / "bin" / "python").exists() or stamp.is_file():
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-e", f"{CHECKOUT}[test]"], check=True)
    stamp.write_text(key)


def main() -> None:
    """Do all of it, with the kernels of the series that are named."""
    with locked("setup"):
        packages()
        environment()
    for series in sys.argv[1:] or SERIES:
        initramfs(kernel(series))


if __name__ == "__main__":
    main()
