"""A small tree with links in it, and how many descriptors are open."""

from __future__ import annotations

import gc
import os
from pathlib import Path


def linked(folder: Path) -> Path:
    """Make a directory, one beside it, and links between them and within; return where it really lies."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_text("in a/b")
    (folder / "out").mkdir()
    (folder / "out" / "file").write_text("outside")
    (folder / "a" / "link").symlink_to(folder / "out")
    (folder / "a" / "relative").symlink_to("../out")
    (folder / "a" / "b" / "linked").symlink_to("file")
    return Path(os.path.realpath(folder))


def open_files() -> int:
    """Return how many descriptors are open."""
    gc.collect()  # what earlier tests have left open
    return len(os.listdir("/proc/self/fd"))
