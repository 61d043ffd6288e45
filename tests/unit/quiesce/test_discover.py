"""What `borg-lvm discover` prints: for plugins of strangers too, loadable as it is, and nothing for nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import pytest

from borg_lvm import config
from borg_lvm.check import unconfigured
from borg_lvm.check.judge import Unnamed
from borg_lvm.config.schema import Settings
from borg_lvm.errors import ConfigError
from borg_lvm.log import Log
from borg_lvm.planning import application_data
from borg_lvm.planning.application_data import Kept, PlannedApplication, ProbedApplication
from borg_lvm.plugins import manager
from borg_lvm.quiesce import discover, managed_application
from borg_lvm.quiesce.discover import Discovered
from borg_lvm_hooks.applications.systemd import writing
from tests.unit.plugins.test_manager import install

pytestmark = pytest.mark.process
STRANGER = """
from dataclasses import dataclass
from borg_lvm.plugin_api import AbsolutePath, ApplicationType, DiscoveredApplication, ListOf, Text, hookimpl, key

@dataclass(frozen=True)
class Options:
    directory: str = key(AbsolutePath(), "/srv", "Where.")
    words: tuple = key(ListOf(Text("a word", ".*"), "a list of words"), (), "Which.")

@hookimpl
def borg_lvm_application():
    return ApplicationType(levels={"stop": "stops it"}, options=Options, make=lambda settings: settings)

@hookimpl
def borg_lvm_discover():
    return FOUND
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def stranger(directory: Path, name: str, found: str) -> None:
    module = f"stranger_{name}"
    install(directory, name, f"[borg_lvm]\n{name} = {module}\n", module, STRANGER.replace("FOUND", found))


def by_stranger(name: str, settings: Settings) -> list[Discovered]:
    return discover.by_plugin(name, settings)


def printed(found: list[Discovered], settings: Settings) -> str:
    return "".join(f"{line}\n" for line in discover.written([one for one in found if not one.configured], settings))


def loaded(directory: Path, text: str) -> Settings:
    file = directory / "config.yaml"
    file.write_text(text)
    return config.load(str(file))


def test_nothing_is_printed_for_nothing(directory: Path) -> None:
    stranger(directory, "silent", "[]")
    assert printed(by_stranger("silent", Settings()), Settings()) == ""


def test_what_is_printed_loads_without_change_and_is_then_configured(directory: Path) -> None:
    found = """[
        DiscoveredApplication("one at /srv/a: b # c\\n- d", {"directory": "/srv/a: b"}, name="one"),
        DiscoveredApplication("another", {"words": ("- x", "y # z", "true", "5")}, name="one", level="stop"),
        DiscoveredApplication("the usual one"),
    ]"""
    stranger(directory, "busy", found)
    text = printed(by_stranger("busy", Settings()), Settings())
    settings = loaded(directory, text)
    made = managed_application.load(settings)
    assert [managed.name for managed in made] == ["one", "one-2", "busy"]
    assert made[0].settings.options.directory == "/srv/a: b"
    assert made[1].settings.options.words == ("- x", "y # z", "true", "5")
    assert "# one at /srv/a: b # c?- d" in text
    assert [one.configured for one in by_stranger("busy", settings)] == ["one", "one-2", "one"]


def test_an_entry_with_more_covers_what_was_found(directory: Path) -> None:
    stranger(
        directory,
        "more",
        """[DiscoveredApplication("it", {"words": ("a",), "directory": "/a"}, identity=("words",))]""",
    )
    entry = "applications:\n- plugin: more\n  name: mine\n  options: {words: [b, a]}\n"
    (one,) = by_stranger("more", loaded(directory, entry))
    assert one.configured == "mine"
    (one,) = by_stranger("more", loaded(directory, entry.replace(", a", "")))
    assert one.configured == ""
    assert "Add the entries to the list" in printed([one], loaded(directory, entry))


def test_a_plugin_that_fails_is_told_and_the_others_are_asked(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stranger(directory, "bad", "1 / 0")
    stranger(directory, "good", """[DiscoveredApplication("it", {"directory": "/found"})]""")
    with pytest.raises(ConfigError, match="'bad' failed to look around: ZeroDivisionError"):
        by_stranger("bad", Settings())
    ours = [plugin for plugin in manager.installed() if plugin.name in ("bad", "good")]
    monkeypatch.setattr(manager, "installed", lambda: ours)
    found = discover.everything(Settings(), Log().warning)
    assert "'bad' failed to look around" in capfd.readouterr().err
    assert [(one.plugin, one.application.options["directory"]) for one in found] == [("good", "/found")]


class DataCoverage:
    """Judges as a run's plan does: what lies below /saved is saved."""

    def planned(self, asked: ProbedApplication) -> PlannedApplication:
        kept = (
            Kept(one.path, one.what, "", "" if one.path.startswith("/saved") else "no") for one in asked.probe.paths
        )
        return PlannedApplication(asked.name, asked.plugin, asked.level, asked.does, "", tuple(kept))


def test_what_is_not_configured_is_judged_by_what_is_seen_and_never_asked(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger(
        directory,
        "fakes",
        """[DiscoveredApplication("a", {"directory": "/a"}, data=("/saved/a", "/b")), DiscoveredApplication("b")]""",
    )
    module = directory / "stranger_fakes.py"
    module.write_text(module.read_text().replace("make=lambda settings: settings", "make=lambda settings: 1 / 0"))
    stranger(directory, "slow", "__import__('time').sleep(600)")
    ours = [plugin for plugin in manager.installed() if plugin.name in ("fakes", "slow")]
    monkeypatch.setattr(manager, "installed", lambda: ours)
    monkeypatch.setattr(unconfigured, "PATIENCE", 1.0)
    begin = time.monotonic()
    found = unconfigured.look(Settings(), cast("application_data.DataCoverage", DataCoverage()))
    assert time.monotonic() - begin < 10
    assert found[:2] == (Unnamed("a", saved=("/saved/a",), missing=("/b: no",)), Unnamed("b"))
    assert "'slow' took too long" in found[2].unknown
    assert unconfigured.look(Settings(), None)[:2] == (Unnamed("a"), Unnamed("b"))


@pytest.mark.parametrize(
    ("path", "directory"),
    [
        ("/var/lib/shop/db/x", "/var/lib/shop"),
        ("/var/lib/x", "/var/lib"),
        ("/srv/shop/a/b/x", "/srv/shop"),
        ("/srv/x", "/srv"),
        ("/x", "/"),
    ],
)
def test_the_directory_of_a_file(path: str, directory: str) -> None:
    assert writing.directory_of(path) == directory
