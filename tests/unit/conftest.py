"""Unit tests stay among themselves: one that starts a process fails, unless it says that it does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from borg_lvm.state import directories
from tests.lab.needing import left_out

STARTING = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "pty.spawn"}

# These start a process on purpose and still want their marker; nothing may be added here.
UNMARKED = {
    "test_a_run_without_files_imports_no_yaml",
    "test_a_file_that_others_can_write",
    "test_a_directory_that_others_can_write",
    "test_everything_wrong_is_told_at_once",
    "test_a_link_of_somebody_else",
    "test_a_secret_that_others_can_read",
}


class Guard:
    """Listens to Python's audit events, which no way of starting a process gets around."""

    def __init__(self) -> None:
        self.forbidden = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: object) -> None:
        if self.forbidden and event in STARTING:
            raise AssertionError(f"a unit test started a process ({event}); mark it @pytest.mark.process if it has to")


GUARD = Guard()

# How long an example takes is the machine's matter: beside three guests one took 0.28 s, with a default limit of 0.2.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the file for what is left out here."""
    told = "write the files with tests that are skipped here for want of a program to FILE"
    parser.getgroup("lab").addoption("--left-out", metavar="FILE", type=Path, help=told)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write it; each worker does, and all the same."""
    told: Path | None = session.config.getoption("--left-out")
    if told:
        half = told.with_name(f"{told.name}.{os.getpid()}")
        half.write_text(left_out(session.items, session.config.rootpath))
        half.replace(told)


@pytest.fixture(autouse=True, scope="session")
def state_lies_in_the_tests_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let our directories lie in a test's directory as they do in /run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directories, "ABOVE", (*directories.ABOVE, str(tmp_path_factory.getbasetemp())))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forbid processes from here on, for a test that has not asked for them."""
    name = getattr(item, "originalname", item.name)
    GUARD.forbidden = item.get_closest_marker("process") is None and name not in UNMARKED


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Allow them again: what pytest itself does is none of our business."""
    GUARD.forbidden = False
