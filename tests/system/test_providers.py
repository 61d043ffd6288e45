"""The contract of providers of snapshots: LVM keeps it, and providers that lie are caught."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm.snapshots.lvm.provider import LvmProvider
from borg_lvm.testing.provider_suite import ProviderContract
from tests.contract.providers.lvm_subject import LvmSubject
from tests.contract.providers.wrong import CAUGHT
from tests.rig import Rig
from tests.rig.tools import run
from tests.rig.volumes import resume

pytestmark = pytest.mark.limit(600)


@pytest.fixture(scope="module")
def volumes() -> Iterator[LvmSubject]:
    """Make the volumes, once for all tests."""
    with Rig() as rig:
        yield LvmSubject(rig)


class TestLvm(ProviderContract):
    """LVM, with a thick and a thin volume."""

    @pytest.fixture
    def subject(self, volumes: LvmSubject) -> LvmSubject:
        return volumes.of(LvmProvider())


class Impatient(ProviderContract):
    """The contract, with less patience for what will not happen."""

    patience = 6.0


@pytest.mark.some_kernel
@pytest.mark.parametrize("wrong", CAUGHT, ids=lambda wrong: wrong.__name__)
def test_a_wrong_provider_is_caught(volumes: LvmSubject, tmp_path: Path, wrong: type[LvmProvider]) -> None:
    subject = volumes.of(wrong())
    meant, words = CAUGHT[wrong]
    name, _, row = meant.removesuffix("]").partition("[")
    test = getattr(Impatient(), f"test_{name}")
    given = {"subject": subject, "tmp_path": tmp_path, "step": row, "fails": row == "True"}
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception), match=words):
            test(**{word: given[word] for word in inspect.signature(test).parameters})
    finally:
        resume(subject.volumes[0].group)
        run(sys.executable, "-P", "-m", "borg_lvm", "clean")
    assert subject.leftovers() == []
