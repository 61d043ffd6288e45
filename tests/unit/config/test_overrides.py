"""What a command line says goes before the configuration; lists are added to its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.config import Size
from borg_lvm.config.overrides import Overrides
from borg_lvm.errors import UsageError

TEXT = "live: [/boot]\nlive_types: [overlay]\nhooks: [borg, tar]\nlock_wait: 5\nsnapshot: {size: 1G}\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    path.chmod(0o600)
    return str(path)


def test_it_goes_before_what_is_configured(file: str) -> None:
    hooks = "tar", "restic"
    settings = Overrides(file, ("/tmp",), ("fuse.*",), hooks, "20%ORIGIN", "per-volume", "list", 30.0).settings()
    assert settings.live == ("/boot", "/tmp")
    assert settings.live_types == ("overlay", "fuse.*")
    assert settings.hooks == ("tar", "restic", "borg")
    assert settings.snapshot.size == Size("origin", 20)
    assert (settings.consistency, settings.prove.mode, settings.lock_wait) == ("per-volume", "list", 30.0)


def test_nothing_leaves_everything(file: str) -> None:
    settings = Overrides(file).settings()
    assert (settings.live, settings.live_types, settings.hooks) == (("/boot",), ("overlay",), ("borg", "tar"))
    assert (settings.snapshot.size, settings.lock_wait) == (Size("bytes", 1 << 30), 5.0)


@pytest.mark.parametrize("kind", ["fuse sshfs", "", "/dev/sda1", "*"])
def test_a_type_of_file_system_that_is_none(file: str, kind: str) -> None:
    with pytest.raises(
        UsageError, match="--live-type: must be a type of file system, as mount shows it, not"
    ) as caught:
        Overrides(file, live_types=("overlay", kind)).settings()
    assert repr(kind) in caught.value.message


def test_a_size_that_is_none(file: str) -> None:
    with pytest.raises(UsageError, match="--snapshot-size"):
        Overrides(file, snapshot_size="many").settings()
