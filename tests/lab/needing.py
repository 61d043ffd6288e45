"""Tests that need programs: what each needs, and the files with those that a machine without the programs skips."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.lab.needs import missing


def needs(item: pytest.Item) -> list[str]:
    """Return what a test needs, by the names in `needs.py`."""
    return [name for mark in item.iter_markers("needs") for name in mark.args]


def left_out(items: Iterable[pytest.Item], root: Path) -> str:
    """Return the files, a line each below `root`, in which tests are skipped here for want of a program."""
    files = {str(item.path.relative_to(root)) for item in items if missing(needs(item))}
    return "".join(f"{file}\n" for file in sorted(files))
