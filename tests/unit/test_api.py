"""The parts of `borg_lvm.api` that start nothing."""

from __future__ import annotations

from borg_lvm import api
from borg_lvm.errors import SnapshotLostError
from borg_lvm.view import host_view


def test_paths_in_a_view() -> None:
    view = api.View("x", "/run/borg-lvm/view/x")
    assert view.path("/srv/a/../b") == "/run/borg-lvm/view/x/srv/b"
    assert view.path("/") == host_view.place("x") == host_view.path("x", "/")


def test_an_error_told_is_an_error_raised() -> None:
    error = api._error(74, "it is lost\na detail\nwhat to do: more room")
    assert isinstance(error, SnapshotLostError)
    assert (error.status, error.message, error.details, error.remedy) == (74, "it is lost", ("a detail",), "more room")
    assert api._error(143, "ended").status == 143
