"""Skips a test whose volumes take programs that this machine lacks: which, the rig alone knows."""

from __future__ import annotations

from collections.abc import Iterator

from tests.lab.needs import missing

OF_KIND = {"thin": "thin", "cachevol": "thin", "cachepool": "thin"}
OF_FILE_SYSTEM = {"xfs": "xfsprogs", "btrfs": "btrfs"}


def needed(*names: str) -> None:
    """Skip the test unless the machine has all of these, by their names in tests/lab/needs.py."""
    if reason := missing(names):
        import pytest  # the demo builds volumes as well, and has none

        pytest.skip(reason)


def of_volume(kind: str, fs: str | None, *, luks: bool) -> Iterator[str]:
    """Yield what a volume takes besides LVM and e2fsprogs."""
    if kind in OF_KIND:
        yield OF_KIND[kind]
    if fs in OF_FILE_SYSTEM:
        yield OF_FILE_SYSTEM[fs]
    if luks:
        yield "luks"
