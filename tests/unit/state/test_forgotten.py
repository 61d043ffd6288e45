"""The directory of a run goes with all that is in it, and with nothing that is elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.state import ledger


def test_what_links_lead_to_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "STATE", str(tmp_path / "state"))
    other, directory = tmp_path / "other", tmp_path / "state/run"
    for place in (other, directory / "view/0"):
        place.mkdir(parents=True)
        (place / "file").write_text("content")
    (directory / "ledger").write_text("{}\n")
    (directory / "link").symlink_to(other)
    ledger.forget("run")
    assert list((tmp_path / "state").iterdir()) == []
    assert [path.name for path in other.iterdir()] == ["file"]
