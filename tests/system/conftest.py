"""Fixtures of the system tests, which run in the lab only."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

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

EVERY = 8
"""Each other kernel takes every eighth row of a long table, the first takes the rest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let guests share the tests: options, for a misspelt one is an error, not a guest that runs all tests."""
    group = parser.getgroup("lab")
    group.addoption("--share", help="a kernel's number (from 0) of how many: what is marked for it; default: all")
    group.addoption("--part", help="a guest's number (from 0) of how many that share these tests, whole files each")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run outside the lab: these tests make devices and mounts."""
    for name, told in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {told}")
    if "BORG_LVM_LAB" not in os.environ:
        pytest.exit("system tests run in the lab only: make system TESTS=…", returncode=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is this guest's, see `pytest_addoption`."""
    kept = set(items)
    if "BORG_LVM_RUNS" not in os.environ:
        kept = {item for item in items if not item.get_closest_marker("soak")}
    if share := config.getoption("--share"):
        number, of = (int(word) for word in share.split("/"))
        rows = [item for item in items if item.get_closest_marker("some_kernel")]
        each = {item for item in items if item.get_closest_marker("each_kernel")}
        theirs = [set(rows[other::EVERY]) for other in range(1, of)]
        kept &= each | theirs[number - 1] if number else set(items).difference(*theirs)
    if part := config.getoption("--part"):
        number, of = (int(word) for word in part.split("/"))
        mine = dealt([item.path for item in kept], of)[number]
        kept = {item for item in kept if item.path in mine}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def dealt(files: Iterable[Path], parts: int) -> list[set[Path]]:
    """Deal out files, named once for each test in them, so that the parts have about as many tests each."""
    hands: list[set[Path]] = [set() for _ in range(parts)]
    counts = Counter(files)
    tests = [0] * parts
    for file, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        least = tests.index(min(tests))
        hands[least].add(file)
        tests[least] += count
    return hands


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
