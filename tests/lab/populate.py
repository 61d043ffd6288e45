"""Compiles what makes programs start faster under User Mode Linux (`guest/populate.c`)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.paths import GUEST, LAB

SOURCE = GUEST / "populate.c"


def library() -> str:
    """Return the path of the shared library, compiled anew only when its source has changed; "" without a compiler.

    A guest does without it, only slower.
    """
    target = LAB / f"populate-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if target.is_file():
        return str(target)
    if not shutil.which("gcc"):
        return ""
    half = Path(f"{target}.{os.getpid()}")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", half, SOURCE], check=True)
    half.rename(target)
    return str(target)
