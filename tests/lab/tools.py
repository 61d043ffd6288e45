"""Runs a program from PyPI that only a maintainer needs: ``python -m tests.lab.tools EXTRA PROGRAM [ARGUMENT…]``.

Each extra of pyproject.toml has an environment of its own below ``.lab/tools``. It is made when it is first used, and
again when the extra has changed. So ``make demo`` and ``make test`` install none of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.lab.log import logged
from tests.lab.paths import CHECKOUT, LAB, locked

TOOLS = LAB / "tools"


def programs(extra: str) -> Path:
    """Return the directory of the programs of an extra, and install them if they are not there.

    Raises: KeyError if pyproject.toml has no such extra; SystemExit if PyPI does not have what it asks for.
    """
    described = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    wanted = described["project"]["optional-dependencies"][extra]
    place = (TOOLS / extra).resolve()  # a scratch clone may share it
    stamp = place / "stamp"
    key = "\n".join([sys.version, str(place), *wanted])
    with locked(f"tools-{extra}"):
        if not stamp.is_file() or stamp.read_text() != key:
            print(f"tools: making {place}: {', '.join(wanted)}", flush=True)
            shutil.rmtree(place, ignore_errors=True)
            logged([sys.executable, "-m", "venv", str(place)])
            logged([str(place / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *wanted])
            stamp.write_text(key)
    return place / "bin"


def main() -> int:
    """Run the program; the status is its own."""
    if len(sys.argv) < 3:
        sys.exit("usage: python -m tests.lab.tools EXTRA PROGRAM [ARGUMENT…]")
    bin_ = programs(sys.argv[1])
    path = {**os.environ, "PATH": f"{bin_}:{os.environ.get('PATH', '')}"}
    return subprocess.run([bin_ / sys.argv[2], *sys.argv[3:]], env=path, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
