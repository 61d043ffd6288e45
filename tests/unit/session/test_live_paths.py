"""What stays live for any command, and that nobody else chooses it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from borg_lvm.machine.paths import look
from borg_lvm.session import live_paths


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a directory of pipes and a socket, instead of those that a machine may have."""
    (tmp_path / "pipes").mkdir()
    monkeypatch.setattr(live_paths, "DIRECTORIES", ((str(tmp_path / "pipes"), "pipes"),))
    monkeypatch.setattr(live_paths, "SOCKETS", ((str(tmp_path / "sql"), "a server's"),))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sql"))
    return tmp_path


def live(*named: Path, agent: str = "") -> list[str]:
    return [seen.real for seen, _ in live_paths.for_any({"SSH_AUTH_SOCK": agent}, [look(str(one)) for one in named])]


def test_what_is_there_stays_live(there: Path) -> None:
    assert live(Path("/")) == [f"{there}/pipes", f"{there}/sql"]
    assert live(there, agent="/run/agent") == ["/run/agent", f"{there}/pipes", f"{there}/sql"]


def test_a_source_is_frozen_all_the_same(there: Path) -> None:
    (there / "pipes" / "private").mkdir()
    assert live(there / "pipes") == [f"{there}/sql"]
    assert live(there / "pipes" / "private", there / "sql") == []


def test_what_another_user_has_put_there_is_not_read_live(there: Path) -> None:
    (there / "sql").unlink()
    (there / "sql").symlink_to("/etc")
    (there / "pipes").rename(there / "moved")
    (there / "pipes").symlink_to("/etc")
    assert live(Path("/")) == []
    (there / "sql").unlink()
    (there / "sql").write_text("data")
    (there / "pipes").unlink()
    assert live(Path("/")) == []
