"""Directories that are made once, and used by every test of a guest."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path


def directory(name: str, where: str | None = None) -> Path:
    """Make a directory that is removed when all tests have ended."""
    made = Path(tempfile.mkdtemp(prefix=f"borg-lvm-{name}-", dir=where))
    atexit.register(shutil.rmtree, made)
    return made
