"""Fixtures of the system tests, which run in the lab only."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.rig import Rig
from tests.system import certificates

MARKERS = {
    "each_kernel": "what happens may depend on the kernel: `make test` runs it on every one",
    "soak": "takes long and proves more of the same: only `make soak` runs it",
    "some_kernel": "a row of a long table: `make test` runs it on one kernel, they take turns",
}
"""All other tests run in `make test` on the first kernel only: UML, where they take a fifth of the time. `make soak`
runs everything on every kernel."""


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run outside the lab: these tests make devices and mounts."""
    for name, told in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {told}")
    if "BORG_LVM_LAB" not in os.environ:
        pytest.exit("system tests run in the lab only: make system TESTS=…", returncode=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is marked for this kernel: BORG_LVM_LAB_SHARE is its number (from 0) of how many; without it, all."""
    kept = set(items)
    if "BORG_LVM_RUNS" not in os.environ:
        kept = {item for item in items if not item.get_closest_marker("soak")}
    if share := os.environ.get("BORG_LVM_LAB_SHARE"):
        number, of = (int(part) for part in share.split("/"))
        rows = [item for item in items if item.get_closest_marker("some_kernel")]
        each = {item for item in items if item.get_closest_marker("each_kernel")}
        kept &= (set(items) - set(rows) if number == 0 else each) | set(rows[number::of])
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Give a rig and undo all that it made."""
    with Rig() as made:
        yield made


@pytest.fixture(autouse=True)
def certificates_are_valid() -> Iterator[None]:
    """Validate what runs have written that nobody waited for; the others are validated as soon as they end."""
    yield
    certificates.validate_new()
