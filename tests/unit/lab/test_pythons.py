"""Which Pythons `make pythons` finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.lab import pythons


@pytest.mark.process
def test_a_shim_that_leads_nowhere_gives_way_to_what_pyenv_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim, place = tmp_path / "shims" / "python3.12", tmp_path / "versions" / "3.12.1" / "bin"
    for directory in (shim.parent, place):
        directory.mkdir(parents=True)
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    (place / "python3.12").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(shim.parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert pythons.interpreters() == {"python3.12": str(place / "python3.12")}
