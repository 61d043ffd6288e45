"""Compiles what makes programs start faster under User Mode Linux (`guest/populate.c`)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.paths import GUEST, LAB

SOURCE = GUEST / "populate.c"
STEADY = {"constant_tsc", "nonstop_tsc"}
"""Flags of a processor whose counter always goes at the same pace, see /proc/cpuinfo."""


def library() -> str:
    """Return the path of the shared library, compiled anew only when its source has changed; "" without a compiler.

    A guest does without it, only slower.
    """
    options = ["-DCOUNTER"] if set(Path("/proc/cpuinfo").read_text().split()) >= STEADY else []
    target = LAB / f"populate-{hashlib.sha256(SOURCE.read_bytes() + repr(options).encode()).hexdigest()[:16]}.so"
    if target.is_file():
        return str(target)
    if not shutil.which("gcc"):
        return ""
    half = Path(f"{target}.{os.getpid()}")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", *options, "-o", half, SOURCE], check=True)
    half.rename(target)
    return str(target)
