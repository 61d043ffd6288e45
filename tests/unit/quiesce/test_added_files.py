"""What is put into a copy: where it goes, what is refused, and that no link leads it elsewhere."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from borg_lvm.plugins.application import Added
from borg_lvm.quiesce.added_files import write

LABEL = Added("/pg/data", "backup_label", b"START\n", os.getuid())


def test_it_is_for_the_owner_of_its_directory_alone(tmp_path: Path) -> None:
    directory = tmp_path / "lib" / "data"
    directory.mkdir(parents=True)
    write("/lib/data", LABEL, below=str(tmp_path))
    made = directory / "backup_label"
    assert made.read_bytes() == b"START\n"
    found = made.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (
        directory.stat().st_uid,
        directory.stat().st_gid,
        0o600,
    )


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "backup_label").write_text("another's")
    with pytest.raises(FileExistsError):
        write("/", LABEL, below=str(tmp_path))
    assert (tmp_path / "backup_label").read_text() == "another's"


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    other = replace(LABEL, owner=os.getuid() + 1)
    with pytest.raises(PermissionError, match=f"it belongs to user {os.getuid()}, not {os.getuid() + 1}"):
        write("/", other, below=str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    copy, live = tmp_path / "copy", tmp_path / "live"
    copy.mkdir()
    (live / "data").mkdir(parents=True)
    (copy / "lib").symlink_to(live)
    with pytest.raises(OSError, match="lib"):
        write("/lib/data", LABEL, below=str(copy))
    (copy / "data").mkdir()
    (copy / "data" / "backup_label").symlink_to(live / "written")
    with pytest.raises(FileExistsError):
        write("/data", LABEL, below=str(copy))
    assert os.listdir(live) == ["data"]
    assert os.listdir(live / "data") == []
