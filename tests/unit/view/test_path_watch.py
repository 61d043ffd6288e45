"""A directory or link on the way to a source that is moved, removed or replaced is noticed, also for a moment."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import syscalls
from borg_lvm.view import path_watch
from tests.unit.trees import linked, open_files


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return linked(tmp_path)


MOVES: dict[str, Callable[[Path], object]] = {
    "it": lambda top: (top / "a" / "b").rename(top / "a" / "c"),
    "above": lambda top: (top / "a").rename(top / "c"),
    "there and back": lambda top: (top / "a").rename(top / "c") and (top / "c").rename(top / "a"),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_move_on_the_way_is_noticed(top: Path, move: str) -> None:
    before = open_files()
    with path_watch.watching([f"{top}/a/b"]) as watch:
        (top / "a" / "new").mkdir()
        (top / "a" / "b" / "file").rename(top / "a" / "b" / "file2")
        (top / "out").rename(top / "out2")
        assert watch.moved() == ()
        MOVES[move](top)
        assert watch.moved() == ((f"{top}/a/b",) if move == "it" else (f"{top}/a",))
        assert watch.moved() == ()
    assert open_files() == before


def test_a_link_on_the_way_is_watched_too(top: Path) -> None:
    with path_watch.watching([f"{top}/a/link/file"]) as watch:
        (top / "a" / "link").unlink()
        assert watch.moved() == (f"{top}/a/link",)
    (top / "round").symlink_to("round")
    with pytest.raises(SnapshotError, match="cannot be watched"), path_watch.watching([f"{top}/round"]):
        pass
    with pytest.raises(SnapshotError, match="it is gone"), path_watch.watching([f"{top}/none"]):
        pass


def test_a_link_that_is_put_back_has_been_away(top: Path) -> None:
    """The inode is linked under another name, and is never moved or deleted."""
    link, kept = top / "a" / "link", top / "a" / "kept"
    with path_watch.watching([f"{link}/file"]) as watch:
        os.link(link, kept, follow_symlinks=False)
        link.unlink()
        link.symlink_to(top)
        link.unlink()
        os.link(kept, link, follow_symlinks=False)
        kept.unlink()
        assert watch.moved() == (str(link),)


def test_no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(syscalls, "inotify", refused)
    with pytest.raises(SnapshotError, match="cannot be watched: Too many open files"), path_watch.watching([]):
        pass
