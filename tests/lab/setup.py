"""Gets a machine ready for a stage (`needs.STAGES`): packages, .venv, kernels. Quick when all is there."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

from tests.lab import log, packages
from tests.lab.archive import ArchiveError
from tests.lab.initramfs import initramfs
from tests.lab.kernels import SERIES, KernelError, kernel, named
from tests.lab.log import logged
from tests.lab.needs import STAGES, machine
from tests.lab.paths import CHECKOUT, locked

VENV = CHECKOUT / ".venv"
WHEELS = VENV / "wheels"
SOURCES = VENV / "sources"
OLDEST = (3, 11)
EXTRAS = {"demo": "", "test": "[test]", "full": "[test,servers]"}
"""What pyproject.toml has for each stage; the soak needs no more than `full`."""
BUILD = ("-O1", "-g0", "-fwrapv", "-DNDEBUG")
"""How borgbackup is compiled, most of the set-up: in half of the time that Python's own -O2 -g takes.

Source: setuptools, which takes CFLAGS, and further settings from the file that DIST_EXTRA_CONFIG names.
"""

EDITABLE = "--config-settings=editable_mode=compat"
"""A path in a .pth file instead of a finder, whose imports took more than half of each start of a Python.

Source: setuptools, "development mode"; a version that does not know it makes a finder.
"""


def environment(stage: str) -> None:
    """Make ``.venv``: the program alone for the demo, with what tests need for all else.

    It is made again only when pyproject.toml, the Python or how it is made has changed.
    """
    wanted = stage if stage in EXTRAS else "full"
    copied = [CHECKOUT / "pyproject.toml", *sorted((CHECKOUT / "bin").iterdir())]  # all else is used where it is
    inputs = b"".join(path.read_bytes() for path in copied) + f"{CHECKOUT} {sys.version} {EDITABLE}".encode()
    key = hashlib.sha256(inputs).hexdigest()
    stamp = VENV / "stamp"
    known = stamp.read_text().split() if stamp.is_file() else []
    if known[:1] == [key] and set(STAGES[STAGES.index(wanted) :]) & set(known):
        return
    what = "the program" if wanted == "demo" else "the program and what tests it, with a borg that is built from source"
    if known[:1] == [key]:
        print(f"setup: adding to {VENV}: Python packages from PyPI for {wanted}", flush=True)
    else:
        print(f"setup: making {VENV}: Python packages from PyPI for {what}", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
    if not (VENV / "bin" / "pip").exists():
        logged([sys.executable, "-m", "venv", str(VENV)])
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]
    together = VENV / "build.cfg"
    together.write_text(f"[build_ext]\nparallel = {os.cpu_count() or 1}\n")
    building = {"CFLAGS": " ".join(BUILD), "DIST_EXTRA_CONFIG": str(together)}
    logged([*pip, EDITABLE, "-e", f"{CHECKOUT}{EXTRAS[wanted]}"], building)
    stamp.write_text(" ".join([key, *sorted({*(known[1:] if known[:1] == [key] else []), wanted})]))


def wheels() -> None:
    """Fetch what `pip install .` takes from PyPI: a guest, in which it is tried, has no network."""
    if WHEELS.is_dir():
        return
    described = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    needed = [*described["build-system"]["requires"], "wheel", *described["project"]["dependencies"]]
    half = WHEELS.with_suffix(".half")
    logged([str(VENV / "bin" / "python"), "-m", "pip", "download", "--quiet", "--dest", str(half), *needed])
    half.rename(WHEELS)


def sources() -> None:
    """Fetch the source of the borgmatic that is installed: the unit that its users are told to copy is only there."""
    (found,) = VENV.glob("lib/python3*/site-packages/borgmatic-*.dist-info")
    version = found.name.removesuffix(".dist-info").removeprefix("borgmatic-")
    if (SOURCES / f"borgmatic-{version}.tar.gz").exists():
        return
    shutil.rmtree(SOURCES, ignore_errors=True)
    which = ["--no-deps", "--no-binary=borgmatic", f"borgmatic=={version}"]
    logged([str(VENV / "bin" / "python"), "-m", "pip", "download", "--quiet", "--dest", str(SOURCES), *which])


def kernels(series: list[str]) -> None:
    """Get kernels ready to boot."""
    for name in series:
        try:
            initramfs(kernel(name))
        except (ArchiveError, KernelError) as error:
            sys.exit(f"setup: no kernel {name}: {error}")


def main() -> None:
    """Do all of it, for the stage and the kernels that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.setup", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("kernel", nargs="*", type=named, choices=SERIES)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    if os.uname().machine != "x86_64":
        sys.exit(f"setup: {machine()} is a {os.uname().machine}: the kernels of the lab are for x86_64 alone")
    with locked("setup"):
        log.begin()
        packages.install(options.stage)
        with ThreadPoolExecutor() as pool:
            # Building borg takes a processor, fetching kernels the network.
            for task in [pool.submit(python, options.stage), pool.submit(kernels, options.kernel)]:
                task.result()


def python(stage: str) -> None:
    """Make all that comes from PyPI."""
    environment(stage)
    if stage != "demo":
        wheels()
    if stage not in ("demo", "test"):
        sources()


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave through the ordinary way out, where what was made for a moment is removed."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        sys.exit(f"setup: Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {sys.version.split()[0]}")
    main()
