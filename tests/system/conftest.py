"""Fixtures of the system tests, which run in the lab only."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.suite.choose import each_value
from tests.rig import Rig
from tests.system import promises
from tests.system.support.runs import certificates

MARKERS = {
    "promise": "proves a promise of README: `make test` runs it; given by tests/system/promises.py",
    "each_series": "what happens may depend on the kernel: runs on both as User Mode Linux; promises.py gives it, too",
    "each_kernel": "as each_series, and on stock kernels in QEMU, with two processors",
    "soak": "takes long and proves more of the same: only `make soak` runs it",
    "some_kernel": "a row of a long table: runs on one kernel, they take turns",
    "each_value": "a table that is the product of lists: each value of each list runs once, the product in the soak",
}
"""What runs where is decided by tests/lab/suite/choose.py."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the list of what this guest is to run."""
    parser.getgroup("lab").addoption("--items", help="a file with a JSON list of the tests to run, by pytest's names")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run outside the lab: these tests make devices and mounts."""
    for name, told in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {told}")
    if "BORG_LVM_LAB" not in os.environ:
        pytest.exit("system tests run in the lab only: make system TESTS=…", returncode=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what this guest is to run, and fail if a test that is listed does not exist here."""
    for item in items:
        for mark in sorted(promises.marks(item.nodeid.removeprefix("tests/system/"))):
            item.add_marker(mark)
    _thin_out([item for item in items if isinstance(item, pytest.Function) and item.get_closest_marker("each_value")])
    listed = config.getoption("--items")
    if listed is None:
        if "BORG_LVM_RUNS" not in os.environ and os.environ["BORG_LVM_LAB"] != "list":
            _keep(config, items, [item for item in items if not item.get_closest_marker("soak")])
        return
    wanted = set(json.loads(Path(listed).read_text()))
    if absent := wanted.difference(item.nodeid for item in items):
        raise pytest.UsageError(f"tests that are listed do not exist here: {sorted(absent)}")
    _keep(config, items, [item for item in items if item.nodeid in wanted])


def _thin_out(items: list[pytest.Function]) -> None:
    """Leave to the soak what only combines values that other rows of the same test have."""
    for _, table in itertools.groupby(items, key=lambda item: item.nodeid.partition("[")[0]):
        rows = list(table)
        for row, kept in zip(rows, each_value([row.callspec.params for row in rows]), strict=True):
            if not kept:
                row.add_marker("soak")


def _keep(config: pytest.Config, items: list[pytest.Item], kept: list[pytest.Item]) -> None:
    names = {item.nodeid for item in kept}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in names])
    items[:] = kept


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
    certificates.forget_old()


@pytest.fixture
def fuse() -> None:
    """Have FUSE file systems, which any user may mount."""
    subprocess.run(["modprobe", "-q", "fuse"], check=False)
    if "fuse\n" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no FUSE")
    if not os.path.exists("/dev/fuse"):
        os.mknod("/dev/fuse", 0o20666, os.makedev(10, 229))
    os.chmod("/dev/fuse", 0o666)
