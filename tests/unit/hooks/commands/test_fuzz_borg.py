"""Some 150 random lines of borg's in each `make test`; `make soak` has 20,000."""

from __future__ import annotations

import pytest

from tests.fuzz import borg, borg_garbage
from tests.fuzz.__main__ import good


@pytest.mark.process
def test_our_reader_reads_what_each_installed_borg_reads() -> None:
    if not borg.installed():
        pytest.skip("no borg installed")
    figures = borg.run(150, seed=7)
    assert good(figures), figures
    assert figures.accepted


def test_nothing_ends_our_reader() -> None:
    assert borg_garbage.run(250, seed=7).faults == ()
