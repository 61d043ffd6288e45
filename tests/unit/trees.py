"""A small tree with links in it, and how many descriptors are open."""

from __future__ import annotations

import gc
import os
from pathlib import Path


def linked(directory: Path) -> Path:
    """Make a directory, one beside it, and links between them and within; return where it really lies."""
    (directory / "a" / "b").mkdir(parents=True)
    (directory / "a" / "b" / "file").write_text("in a/b")
    (directory / "out").mkdir()
    (directory / "out" / "file").write_text("outside")
    (directory / "a" / "link").symlink_to(directory / "out")
    (directory / "a" / "relative").symlink_to("../out")
    (directory / "a" / "b" / "linked").symlink_to("file")
    return Path(os.path.realpath(directory))


def open_files() -> int:
    """Return how many descriptors are open."""
    gc.collect()  # what earlier tests have left open
    return len(os.listdir("/proc/self/fd"))
