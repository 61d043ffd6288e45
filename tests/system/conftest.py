"""Fixtures of the system tests, which run in the lab only."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.rig import Rig


def pytest_configure() -> None:
    """Refuse to run outside the lab: these tests make devices and mounts."""
    if "BORG_LVM_LAB" not in os.environ:
        pytest.exit("system tests run in the lab only: make system TESTS=…", returncode=4)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Give a rig and undo all that it made."""
    with Rig() as made:
        yield made
