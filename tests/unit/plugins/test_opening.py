"""A file of somebody else's is opened once, through no link, and only if it is a plain one of his."""

from __future__ import annotations

import gc
import os
import socket
from contextlib import closing, suppress
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


def test_below_a_directory_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "top" / "d").mkdir(parents=True)
    (tmp_path / "top" / "d" / "file").write_text("words")
    (tmp_path / "top" / "link").symlink_to("d")
    os.mkfifo(tmp_path / "top" / "pipe")
    os.setxattr(tmp_path / "top" / "d" / "file", "user.kept", b"right")
    (tmp_path / "way").symlink_to("top")
    with closing(opening.Below(str(tmp_path / "way"))) as tree:
        for name, there in (("", True), ("d", True), ("d/file", True), ("link", True), ("d/none", False)):
            with tree.opened(name) as handle:
                assert (handle is not None) is there, name
        for name in ("link/file", "../top/d/file", "d/../d/file"):
            with suppress(OSError), tree.opened(name) as handle:  # which says that it is no plain path
                assert handle is None, name
        assert sorted(tree.names()) == ["", "d", "d/file", "link", "pipe"]
        with tree.opened("link") as handle:
            assert handle is not None
            assert opening.target(handle) == "d"
            assert opening.attributes(handle) == {}
        with tree.opened("d/file") as handle:
            assert handle is not None
            assert opening.attributes(handle) == {"user.kept": b"right"}
        assert [tree.plain(name) for name in ("d", "link", "pipe", "none")] == [None] * 4
        file = tree.plain("d/file")
        assert file
        with file:
            assert file.read() == b"words"


def test_a_directory_that_is_exchanged_meanwhile_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out" / "secret").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "top" / name / "inside").mkdir(parents=True)
    with closing(opening.Below(str(tmp_path / "top"))) as tree:
        names = tree.names()
        known = [next(names) for _ in range(3)]
        for name, exchanged in (("a", Path.symlink_to), ("b", None)):
            (tmp_path / "top" / name).rename(tmp_path / f"was-{name}")
            if exchanged:
                exchanged(tmp_path / "top" / name, tmp_path / "out")
        assert sorted([*known, *names]) == ["", "a", "b"]


def test_attributes_that_cannot_be_read_are_an_error_and_not_none() -> None:
    handle = os.open("/", opening.HANDLE)
    os.close(handle)
    with pytest.raises(FileNotFoundError):
        opening.attributes(handle)
