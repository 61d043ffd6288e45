"""What is said when another run holds a volume; that the locks hold is shown by real runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.errors import LockedError
from borg_lvm.linux.signals import Signals
from borg_lvm.state import locks
from tests.unit.data.machine import VOLUME


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(locks, "DIRECTORY", str(tmp_path))


def refused(wait: float) -> LockedError:
    with (
        locks.held([VOLUME], "run 1, pid 2, borg", 0, Signals()),
        pytest.raises(LockedError) as found,
        locks.held([VOLUME], "run 3", wait, Signals()),
    ):
        raise AssertionError("it is held twice")
    return found.value


def test_who_has_not_waited_is_told_how_to() -> None:
    error = refused(0)
    assert error.message == f"{VOLUME.full_name} is being backed up by another run: run 1, pid 2, borg"
    assert "--lock-wait SECONDS" in error.remedy


def test_who_has_waited_is_not_told_to() -> None:
    error = refused(0.3)
    assert error.message.endswith("run 1, pid 2, borg; it was waited for 0.3 s, as --lock-wait says")
    assert "--lock-wait" not in error.remedy


def test_one_that_is_free_again_is_no_matter() -> None:
    for number in range(2):
        with locks.held([VOLUME], f"run {number}", 0, Signals()):
            assert list(locks.holders([VOLUME]))
    assert list(locks.holders([VOLUME])) == []
