"""Of a path that the command must find live, what has to be so at least."""

from __future__ import annotations

from borg_lvm.plugins.backup_command import LivePath

CACHE = LivePath("/root/.cache/borg", "borg's cache", make=True, unsaved=True)


def test_nothing_is_shown_frozen_of_what_may_be_written_anywhere() -> None:
    assert CACHE.least() == (CACHE,)


def test_only_the_names_that_are_written_need_be_live() -> None:
    read = LivePath("/root/.config/borg", "its keys", make=True, written=("security", "locks"), unsaved=True)
    assert read.least() == (
        LivePath("/root/.config/borg/security", "its keys", make=True, unsaved=True),
        LivePath("/root/.config/borg/locks", "its keys", make=True, unsaved=True),
    )
    assert [path.least() for path in read.least()] == [(path,) for path in read.least()]


def test_nothing_need_be_live_of_what_is_only_read() -> None:
    assert LivePath("/root/.config", "it is read", written=()).least() == ()
