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
# What `make soak` runs and `make test` does not: the table of kills takes most of an hour in an emulated guest; the
# others have not been seen to pass on a quiet machine since they were changed last, and move back when they have.
SOAKED_FILES = frozenset(("test_killed.py", "test_signals.py"))
SOAKED = (
    "test_command_lines",
    "test_repository_is_the_source",
    "test_kind[cached",
    "test_the_commands_of_readme_work",
    "test_second_run_of_borg",
    "test_a_parent_that_ignores",
)
KINDS = ("test_kind[", "test_luks[", "test_keep[")


def soaked(item: pytest.Item) -> bool:
    """Tell whether a test is left to `make soak`."""
    unseen = item.path.name == "test_kinds.py" and not item.name.startswith(KINDS)
    return item.path.name in SOAKED_FILES or item.name.startswith(SOAKED) or unseen


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
    others = {item for item in items if soaked(item)}
    dealt = [item for item in items if item.path.name in DEALT and item not in others]
    others |= {item for place, item in enumerate(dealt) if place % int(of) != int(number)}
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Give a rig and undo all that it made."""
    with Rig() as made:
        yield made
