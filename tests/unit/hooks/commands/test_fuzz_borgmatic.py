"""The reader of borgmatic's command lines beside the borgmatics that are installed, and before files that are broken.

A hundred cases here; the soak takes 20,000 and 100,000.
"""

from __future__ import annotations

import os

import pytest

from borg_lvm import config
from tests.fuzz import borgmatic, borgmatic_judge, broken

SOAK = "BORG_LVM_RUNS" in os.environ


@pytest.mark.process
def test_borgmatic_has_no_root_that_is_not_read() -> None:
    if not borgmatic_judge.interpreters():
        pytest.skip("no borgmatic installed")
    figures = borgmatic.run(20_000 if SOAK else 120, seed=17)
    assert figures.faults == ()
    assert figures.missed == 0
    assert figures.accepted * 2 > figures.cases
    assert figures.refused * 100 <= figures.accepted


@pytest.mark.parametrize("target", broken.TARGETS)
def test_a_broken_file_brings_no_reader_to_anything_but_its_own_error(target: broken.Target) -> None:
    figures = target(100_000 if SOAK else 100, 17)
    assert figures.faults == ()
    assert 0 < figures.refused < figures.cases


def test_what_is_broken_was_whole(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "config.yaml")
    with open(path, "w") as file:
        file.write(broken.OWN)
    os.chmod(path, 0o600)
    assert config.load(path).paths == ("/srv", "/home")
