"""The unit tests on every Python that is installed, each in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab.paths import CHECKOUT, LAB
from tests.lab.setup import OLDEST

NEWEST = (3, 19)
"""The highest that is looked for."""


def interpreters() -> dict[str, str]:
    """Return the Pythons that borg-lvm may run on, by name: `python3.12` and where it is, the first that works."""
    names = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    working = ((name, next(filter(_works, _places(name)), None)) for name in names)
    return {name: path for name, path in working if path}


def _places(name: str) -> Iterator[str]:
    """Yield where a Python may be: on PATH, where a shim of pyenv's may lead nowhere, and what pyenv and uv have."""
    if path := shutil.which(name):
        yield path
    for directory in (os.environ.get("PYENV_ROOT", "~/.pyenv") + "/versions", "~/.local/share/uv/python"):
        yield from map(str, sorted(Path(directory).expanduser().glob(f"*/bin/{name}"), reverse=True))


def _works(path: str) -> bool:
    """Whether it starts, with what a virtual environment takes."""
    asked = [path, "-c", "import ensurepip, ssl, sys; sys.exit(sys.version_info < (3, 11))"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def passes(name: str, path: str) -> bool:
    """Install everything for a Python, and run the unit tests on it."""
    place = LAB / "pythons" / name
    python = str(place / "bin" / "python")
    if not Path(python).exists():
        print(f"pythons: making {place}", flush=True)
        subprocess.run([path, "-m", "venv", str(place)], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-e", f"{CHECKOUT}[test]"], check=True)
    print(f"pythons: {name}", flush=True)
    tests = [python, "-m", "pytest", "-q", "-n", "auto", "tests/unit"]
    return subprocess.run(tests, cwd=CHECKOUT, check=False).returncode == 0


def main() -> int:
    """Run them all; the status is 0 if all passed, on one Python at least."""
    known = interpreters()
    results = {name: passes(name, path) for name, path in known.items()}
    for name, good in results.items():
        print(f"pythons: {name}: {'passed' if good else 'FAILED'}")
    if not known:
        print("pythons: no python3.11 or newer is on PATH, nor in the directories of pyenv and uv")
    return 0 if results and all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
