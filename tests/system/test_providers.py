"""The contract of providers of snapshots: LVM keeps it, and providers that lie are caught."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm.machine.btrfs_subvolumes import gathers
from borg_lvm.snapshots.btrfs.provider import BtrfsProvider
from borg_lvm.snapshots.lvm.provider import LvmProvider
from borg_lvm.snapshots.providers import provider
from borg_lvm.snapshots.zfs.provider import ZfsProvider
from borg_lvm.testing.provider_run import STEPS
from borg_lvm.testing.provider_subject import ProviderSubject
from borg_lvm.testing.provider_suite import ProviderContract
from tests.contract.providers import wrong_btrfs, wrong_zfs
from tests.contract.providers.btrfs_subject import SubvolumeSubject
from tests.contract.providers.lvm_subject import LvmSubject
from tests.contract.providers.wrong import CAUGHT
from tests.contract.providers.zfs_subject import DatasetSubject
from tests.rig import Rig
from tests.rig.native import Native, native
from tests.rig.tools import run
from tests.rig.zpool import Pool, pool

pytestmark = pytest.mark.limit(600)
MIXED = [
    pytest.param(step, marks=() if step in ("prepared", "suspended", "made") else pytest.mark.soak) for step in STEPS
]
"""At which steps a run of both providers dies: before the window, in it, after it. Each alone dies at all of them."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Rig]:
    """Have one rig for all tests: each sees what is left, and nothing that another has made for itself."""
    with Rig() as rig:
        yield rig


@pytest.fixture(scope="module")
def volumes(machine: Rig) -> LvmSubject:
    """Make the volumes, once for all tests."""
    return LvmSubject(machine)


@pytest.fixture(scope="module")
def btrfs(machine: Rig) -> Native:
    """Make a btrfs on disks, once for all tests."""
    return native(machine)


@pytest.fixture(scope="module")
def two(btrfs: Native) -> list[Path]:
    """Make another subvolume of it, and return where both are mounted."""
    if not gathers(os.uname().release):
        pytest.skip("this kernel gathers no snapshots in one transaction")
    return [btrfs.at, btrfs.another("another")]


@pytest.fixture(scope="module")
def zfs(machine: Rig) -> tuple[Pool, list[Path]]:
    """Make a pool with two datasets, once for all tests."""
    made = pool(machine, "tank")
    return made, [made.dataset(name) for name in ("one", "two")]


class TestLvm(ProviderContract):
    """LVM, with a thick and a thin volume."""

    @pytest.fixture
    def subject(self, volumes: LvmSubject) -> LvmSubject:
        return volumes.of(LvmProvider())


@pytest.mark.needs("btrfs")
class TestBtrfs(ProviderContract):
    """btrfs, with a subvolume, which cannot be held."""

    @pytest.fixture
    def subject(self, machine: Rig, btrfs: Native) -> SubvolumeSubject:
        return SubvolumeSubject(machine, btrfs).of(BtrfsProvider())


@pytest.mark.needs("btrfs")
class TestTwo(ProviderContract):
    """btrfs, with two subvolumes, of which the snapshots are of one transaction."""

    @pytest.fixture
    def subject(self, machine: Rig, btrfs: Native, two: list[Path]) -> SubvolumeSubject:
        return SubvolumeSubject(machine, btrfs, at=two).of(BtrfsProvider())


@pytest.mark.needs("btrfs")
class TestTogether(ProviderContract):
    """Both, as a run has them: a subvolume that cannot be held, while a volume is."""

    @pytest.mark.parametrize("step", MIXED)
    def test_what_a_dead_run_leaves_is_found_and_removed(self, subject: ProviderSubject, step: str) -> None:
        super().test_what_a_dead_run_leaves_is_found_and_removed(subject, step)

    @pytest.fixture
    def subject(self, machine: Rig, btrfs: Native, volumes: LvmSubject) -> SubvolumeSubject:
        return SubvolumeSubject(machine, btrfs, volumes.volumes[0]).of(provider())


@pytest.mark.needs("btrfs")
@pytest.mark.soak
class TestTwoTogether(ProviderContract):
    """Two subvolumes of one transaction, while a volume is held."""

    @pytest.fixture
    def subject(self, machine: Rig, btrfs: Native, two: list[Path], volumes: LvmSubject) -> SubvolumeSubject:
        return SubvolumeSubject(machine, btrfs, volumes.volumes[0], two).of(provider())


@pytest.mark.soak
class TestZfs(ProviderContract):
    """ZFS, with two datasets of a pool, which cannot be held."""

    @pytest.fixture
    def subject(self, machine: Rig, zfs: tuple[Pool, list[Path]]) -> DatasetSubject:
        return DatasetSubject(machine, *zfs).of(ZfsProvider())


@pytest.mark.soak
class TestZfsTogether(ProviderContract):
    """As a run has them: datasets that cannot be held, while a volume is."""

    @pytest.fixture
    def subject(self, machine: Rig, zfs: tuple[Pool, list[Path]], volumes: LvmSubject) -> DatasetSubject:
        return DatasetSubject(machine, *zfs, volumes.volumes[0]).of(provider())


class Impatient(ProviderContract):
    """The contract, with less patience for what will not happen."""

    patience = 6.0


def judged(subject: LvmSubject | SubvolumeSubject | DatasetSubject, case: tuple[str, str], tmp_path: Path) -> None:
    """See a test of the contract fail with its words."""
    meant, words = case
    name, _, row = meant.removesuffix("]").partition("[")
    test = getattr(Impatient(), f"test_{name}")
    given = {"subject": subject, "tmp_path": tmp_path, "step": row, "fails": row == "True"}
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception), match=words):
            test(**{word: given[word] for word in inspect.signature(test).parameters})
    finally:
        subject.wake_all()
        run(sys.executable, "-P", "-m", "borg_lvm", "clean")
    assert subject.leftovers() == []


@pytest.mark.some_kernel
@pytest.mark.parametrize("wrong", CAUGHT, ids=lambda wrong: wrong.__name__)
def test_a_wrong_provider_is_caught(volumes: LvmSubject, tmp_path: Path, wrong: type[LvmProvider]) -> None:
    judged(volumes.of(wrong()), CAUGHT[wrong], tmp_path)


@pytest.mark.needs("btrfs")
@pytest.mark.some_kernel
@pytest.mark.parametrize("wrong", wrong_btrfs.CAUGHT, ids=lambda wrong: wrong.__name__)
def test_a_wrong_btrfs_is_caught(
    machine: Rig, btrfs: Native, two: list[Path], tmp_path: Path, wrong: type[BtrfsProvider]
) -> None:
    judged(SubvolumeSubject(machine, btrfs, at=two).of(wrong()), wrong_btrfs.CAUGHT[wrong], tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("wrong", wrong_zfs.CAUGHT, ids=lambda wrong: wrong.__name__)
def test_a_wrong_zfs_is_caught(
    machine: Rig, zfs: tuple[Pool, list[Path]], tmp_path: Path, wrong: type[ZfsProvider]
) -> None:
    judged(DatasetSubject(machine, *zfs).of(wrong()), wrong_zfs.CAUGHT[wrong], tmp_path)
