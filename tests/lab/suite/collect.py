"""Asks pytest which system tests there are. They only run in a guest; their names are the same there and here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.lab.paths import CHECKOUT
from tests.lab.suite.choose import Item


def collected(arguments: Sequence[str]) -> list[Item]:
    """Return the tests that pytest finds for these arguments. Raises: SystemExit with what pytest says."""
    with tempfile.TemporaryDirectory() as directory:
        listed = Path(directory) / "items"
        command = [sys.executable, "-m", "pytest", "-p", "tests.lab.suite.collect", "--collect-only", "-q"]
        environment = {**os.environ, "BORG_LVM_LAB": "list", "BORG_LVM_LAB_LIST": str(listed)}
        environment |= {"BORG_LVM_LAB_KERNEL": ""}
        done = subprocess.run(
            [*command, *(arguments or ["tests/system"])],
            cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode or not listed.is_file():
            sys.exit(f"tests: pytest finds no tests for {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return [Item(name, frozenset(marks)) for name, marks in json.loads(listed.read_text())]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write down the names and markers (this module is pytest's plugin in the process that lists them)."""
    listed = os.environ.get("BORG_LVM_LAB_LIST")
    if listed:
        items = [(item.nodeid, sorted({mark.name for mark in item.iter_markers()})) for item in session.items]
        Path(listed).write_text(json.dumps(items))
