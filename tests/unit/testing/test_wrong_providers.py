"""Each provider that lies is judged by a test that the contract has."""

from __future__ import annotations

import pytest

from borg_lvm.testing.provider_suite import ProviderContract
from tests.contract.providers import wrong, wrong_btrfs, wrong_zfs

MEANT = {test for module in (wrong, wrong_btrfs, wrong_zfs) for test, _ in module.CAUGHT.values()}


@pytest.mark.parametrize("test", sorted(MEANT))
def test_it_is_there(test: str) -> None:
    assert hasattr(ProviderContract, f"test_{test.partition('[')[0]}")
