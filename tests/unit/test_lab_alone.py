"""What borg gets in an environment of its own."""

from __future__ import annotations

from pathlib import Path

from tests.lab.alone import link, needed


def test_it_is_all_that_borg_needs_and_nothing_else(tmp_path: Path) -> None:
    found = needed("borgbackup")
    assert {"borgbackup", "msgpack", "packaging"} <= set(found)
    assert not {"pytest", "hypothesis", "borg-lvm"} & set(found)
    for distribution in found.values():
        link(distribution, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"borg", "msgpack", "packaging"} <= names
    assert not {"bin", "__pycache__", "pytest"} & names
    assert all(path.exists() for path in tmp_path.iterdir())
