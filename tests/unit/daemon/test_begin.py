"""What `begin` and `end` understand, and how the keeper is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.cli import parser
from borg_lvm.daemon import client
from borg_lvm.errors import LockedError, UsageError
from borg_lvm.reporting import verdict
from borg_lvm.view import control_socket, host_view


@pytest.mark.parametrize("name", ["nightly", "a", "A-b_9", "-", "x" * 64])
def test_names(name: str) -> None:
    control_socket.refuse_other_names(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a\n", "ä", "x" * 65])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a view"):
        control_socket.refuse_other_names(name)


@pytest.mark.parametrize(("text", "status"), [("0", 0), ("2", 2), ("255", 255), ("TERM", 143), ("", None)])
def test_statuses(text: str, status: int | None) -> None:
    assert parser.parser().parse_args(["end", "x", "--status", text]).status == status


@pytest.mark.parametrize("text", ["256", "-1", "SIGTERM", "x", "٣", "1.0"])
def test_what_is_no_status(text: str) -> None:
    with pytest.raises(UsageError):
        parser.parser().parse_args(["end", "x", f"--status={text}"])


@pytest.mark.parametrize("text", ["0", "604801", "nan", "x"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(UsageError):
        parser.parser().parse_args(["begin", "x", f"--limit={text}"])


def test_under_systemd_the_keeper_has_a_scope_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SYSTEMD", str(tmp_path / "none"))
    assert client._out_of_the_unit("x") == []
    monkeypatch.setattr(client, "SYSTEMD", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert client._out_of_the_unit("x") == []
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/systemd-run")
    words = client._out_of_the_unit("x")
    assert words[0] == "systemd-run"
    assert "--scope" in words
    assert words[-1] == "--"


def test_a_desk_is_found_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "DIRECTORY", str(tmp_path))
    assert not control_socket.is_known("x")
    with control_socket.opened("x") as one:
        assert control_socket.is_kept("x")
        assert one.asked(0.0) == ""
        with pytest.raises(LockedError, match="being started by another process"), control_socket.opened("x"):
            pass
        Path(one.log).write_text("last words")
        one.close(7)
    assert not control_socket.is_kept("x")
    assert control_socket.ask("x", "end 0") == control_socket.DaemonEnd(b"last words", 7)
    assert not control_socket.is_known("x")
    with control_socket.opened("x"):
        pass
    assert control_socket.ask("x", "end 0") == control_socket.DaemonEnd(b"", None)  # killed: it has left no status


def test_what_was_unmounted_is_told_apart_from_what_was_moved() -> None:
    moved = verdict.distrust((), ("/srv",))
    unmounted = verdict.distrust((), (f"{host_view.place('x')}/srv",))
    assert moved
    assert unmounted
    assert "was replaced or moved" in moved.reasons[0]
    assert "was unmounted" in unmounted.reasons[0]
    assert moved.remedy != unmounted.remedy
