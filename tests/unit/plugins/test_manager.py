"""Finding plugins: quickly in the folders of `sys.path`, else in every way that Python knows; both agree."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from borg_lvm.errors import ConfigError
from borg_lvm.plugins import manager


def install(folder: Path, package: str, entries: str, module: str = "", code: str = "") -> None:
    """Put a package into a folder as an installer leaves it."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)
    if module:
        (folder / f"{module}.py").write_text(code)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_both_ways_find_the_same() -> None:
    quickly = dict(offer for place in reversed(sys.path) for offer in manager._offers(place))
    assert quickly == {point.name: point.value for point in entry_points(group=manager.GROUP)}


def test_a_strangers_module_is_found_among_other_entry_points(folder: Path) -> None:
    entries = (
        "[console_scripts]\nborg_lvm = other:main\n\n[borg_lvm]\n# one of ours\nstrange = stranger_one\n\n[x]\na=b\n"
    )
    install(folder, "strange", entries, "stranger_one", '"""A stranger."""\n')
    assert dict(manager._offers(str(folder))) == {"strange": "stranger_one"}
    assert manager.load(["strange"]).get_plugin("strange").__doc__ == "A stranger."


def test_an_object_inside_a_module(folder: Path) -> None:
    install(folder, "inner", "[borg_lvm]\ninner = stranger_two:Box.plugin\n", "stranger_two", "class Box: plugin = 5\n")
    assert manager.load(["inner"]).get_plugin("inner") == 5


def test_the_earlier_folder_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(folder / "late", "twice", "[borg_lvm]\ntwice = late_one\n", "late_one", '"""Late."""')
    install(folder / "early", "twice", "[borg_lvm]\ntwice = early_one\n", "early_one", '"""Early."""')
    monkeypatch.syspath_prepend(folder / "late")
    monkeypatch.syspath_prepend(folder / "early")
    assert manager.load(["twice"]).get_plugin("twice").__doc__ == "Early."


def test_a_name_that_is_nowhere_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="'brog' is not installed") as told:
        manager.load(["brog"])
    assert told.value.remedy == "did you mean 'borg'?"


def test_a_plugin_that_breaks_is_named(folder: Path) -> None:
    install(folder, "broken", "[borg_lvm]\nbroken = stranger_broken\n", "stranger_broken", "1 / 0\n")
    with pytest.raises(ConfigError, match=r"'broken' \(stranger_broken\) cannot be loaded: division by zero"):
        manager.load(["broken"])


def test_what_cannot_be_read_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty-1.dist-info").mkdir()
    assert dict(manager._offers(str(tmp_path))) == {}
    assert dict(manager._offers(str(tmp_path / "missing"))) == {}
