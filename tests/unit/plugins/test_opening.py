"""A file of somebody else's is opened once, through no link, and only if it is a plain one of his."""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path

import pytest

from borg_lvm.plugins import opening


def test_a_plain_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    with opening.plain(str(tmp_path / "file"), os.geteuid()) as file:
        assert file.read() == b"words"


def test_another_users_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    with pytest.raises(PermissionError, match=f"it belongs to user {os.geteuid()}, not 4711"):
        opening.plain(str(tmp_path / "file"), 4711)


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "socket", "device"])
def test_nothing_else_is_opened_and_nobody_waits(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("words")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    gc.collect()  # what earlier tests have left open
    before = os.listdir("/proc/self/fd")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        path = "/dev/zero" if what == "device" else str(tmp_path / what)
        with pytest.raises(OSError, match="it is no plain file"):
            opening.plain(path)
    assert os.listdir("/proc/self/fd") == before


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        opening.plain(str(tmp_path / "none"))
