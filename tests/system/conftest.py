"""Fixtures of the system tests, which run in the lab only."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.rig import Rig

# Long tables: when several kernels are tested side by side, their rows are dealt out among them. `make soak` runs all
# of them on every kernel.
DEALT = frozenset(
    f"test_{name}.py"
    for name in ("demo", "economy", "faithful", "hostile", "killed", "kinds", "paths", "refusals", "signals")
)
# Of the table of kills, which takes most of an hour in an emulated guest, `make test` keeps a row of each kind.
KILLS = frozenset(
    (
        "test_killed[thick-before-lvcreate-both]",
        "test_killed[thick-in-lvcreate-both]",
        "test_killed[thick-view-us]",
        "test_killed[thick-command-us]",
        "test_killed[luks1-after-dmsetup-us]",
        "test_clean_killed[command-two]",
        "test_deadline[two]",
        "test_clean_killed_at_the_mapping[luks1]",
    )
)


def pytest_configure() -> None:
    """Refuse to run outside the lab: these tests make devices and mounts."""
    if "BORG_LVM_LAB" not in os.environ:
        pytest.exit("system tests run in the lab only: make system TESTS=…", returncode=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep this kernel's share of the dealt tests: BORG_LVM_LAB_SHARE is `number/of`; without it, keep all."""
    share = os.environ.get("BORG_LVM_LAB_SHARE")
    if not share:
        return
    number, _, of = share.partition("/")
    others = {item for item in items if item.path.name == "test_killed.py" and item.name not in KILLS}
    dealt = [item for item in items if item.path.name in DEALT and item not in others]
    others |= {item for place, item in enumerate(dealt) if place % int(of) != int(number)}
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Give a rig and undo all that it made."""
    with Rig() as made:
        yield made
