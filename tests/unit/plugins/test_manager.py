"""Finding plugins: quickly in the directories of `sys.path`, else in every way that Python knows; both agree."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from borg_lvm.errors import ConfigError
from borg_lvm.linux import subprocesses
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import Invocation, Reading, Span, Tainted


def install(directory: Path, package: str, entries: str, module: str = "", code: str = "") -> None:
    """Put a package into a directory as an installer leaves it."""
    info = directory / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)
    if module:
        (directory / f"{module}.py").write_text(code)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_both_ways_find_the_same() -> None:
    quickly = dict(offer for place in reversed(sys.path) for offer in manager._offers(place))
    assert quickly == {point.name: point.value for point in entry_points(group=manager.GROUP)}


def test_a_strangers_module_is_found_among_other_entry_points(directory: Path) -> None:
    entries = (
        "[console_scripts]\nborg_lvm = other:main\n\n[borg_lvm]\n# one of ours\nstrange = stranger_one\n\n[x]\na=b\n"
    )
    install(directory, "strange", entries, "stranger_one", '"""A stranger."""\n')
    assert dict(manager._offers(str(directory))) == {"strange": "stranger_one"}
    assert manager.load(["strange"]).get_plugin("strange").__doc__ == "A stranger."


def test_an_object_inside_a_module(directory: Path) -> None:
    install(
        directory, "inner", "[borg_lvm]\ninner = stranger_two:Box.plugin\n", "stranger_two", "class Box: plugin = 5\n"
    )
    assert manager.load(["inner"]).get_plugin("inner") == 5


def test_the_earlier_directory_wins(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(directory / "late", "twice", "[borg_lvm]\ntwice = late_one\n", "late_one", '"""Late."""')
    install(directory / "early", "twice", "[borg_lvm]\ntwice = early_one\n", "early_one", '"""Early."""')
    monkeypatch.syspath_prepend(directory / "late")
    monkeypatch.syspath_prepend(directory / "early")
    assert manager.load(["twice"]).get_plugin("twice").__doc__ == "Early."


def test_a_name_that_is_nowhere_is_told(directory: Path) -> None:
    with pytest.raises(ConfigError, match="'brog' is not installed") as told:
        manager.load(["brog"])
    assert told.value.remedy == "did you mean 'borg'?"


def test_a_plugin_that_breaks_is_named(directory: Path) -> None:
    install(directory, "broken", "[borg_lvm]\nbroken = stranger_broken\n", "stranger_broken", "1 / 0\n")
    with pytest.raises(ConfigError, match=r"'broken' \(stranger_broken\) cannot be loaded: division by zero"):
        manager.load(["broken"])


def test_what_cannot_be_read_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty-1.dist-info").mkdir()
    assert dict(manager._offers(str(tmp_path))) == {}
    assert dict(manager._offers(str(tmp_path / "missing"))) == {}


def test_our_own_packages_plugins_are_found_without_reading_others(directory: Path) -> None:
    install(directory, "stranger", "[borg_lvm]\nstrange = stranger_one\n")
    assert "strange" not in manager._places(["borg", "tar"])
    assert manager._places(["borg", "strange"])["strange"] == "stranger_one"


ASKED = """
from borg_lvm.plugin_api import Reading, hookimpl

@hookimpl
def borg_lvm_read_command(invocation):
    return Reading("one", "") if invocation.program == "one" else None
"""


def test_who_comes_after_the_first_answer_is_not_imported(directory: Path) -> None:
    install(directory, "one", "[borg_lvm]\none = asked_one\n", "asked_one", ASKED)
    install(directory, "broken", "[borg_lvm]\nbroken = stranger_late\n", "stranger_late", "1 / 0\n")
    answer = manager.read_command(["one", "broken"], Invocation(("one",), {}, "/"))
    assert answer
    assert answer.program == "one"
    with pytest.raises(ConfigError, match=r"'broken' \(stranger_late\) cannot be loaded"):
        manager.read_command(["one", "broken"], Invocation(("two",), {}, "/"))
    with pytest.raises(ConfigError, match="'nowhere' is not installed"):
        manager.read_command(["one", "nowhere"], Invocation(("one",), {}, "/"))


LOST = Tainted(Span(0.0, 60.0), "rename", subprocesses.run)
ANSWERS = """
from borg_lvm.plugin_api import hookimpl

@hookimpl
def borg_lvm_taint(invocation, tainted):
    return "marked"

@hookimpl
def borg_lvm_read_back(invocation):
    return "readable"
"""


def test_an_answer_of_another_type_is_refused_and_named(directory: Path) -> None:
    """What took it for the answer would fail later, in a run whose snapshots exist."""
    install(directory, "odd", "[borg_lvm]\nodd = answers_odd\n", "answers_odd", ANSWERS)
    invocation = Invocation(("borg", "create"), {}, "/")
    with pytest.raises(TypeError, match="borg_lvm_taint returned str, not Marked"):
        manager.taint(["odd"], invocation, LOST)
    with pytest.raises(TypeError, match="borg_lvm_read_back returned str, not ReadBack"):
        manager.read_back(["odd"], invocation)


def test_who_knows_nothing_of_a_command_leaves_it_to_the_next(directory: Path) -> None:
    invocation = Invocation(("one",), {}, "/")
    install(directory, "one", "[borg_lvm]\none = asked_one\n", "asked_one", ASKED)
    assert manager.taint(["one"], invocation, LOST) is None
    assert manager.read_back(["one"], invocation) is None
    assert manager.read_command(["tar", "one"], invocation) == Reading("one", "")


PENDING = """
from borg_lvm.plugin_api import hookimpl

@hookimpl
def borg_lvm_read_comand(invocation):
    pass
"""


def test_a_hook_that_does_not_exist_is_named(directory: Path) -> None:
    install(directory, "typo", "[borg_lvm]\ntypo = pending_typo\n", "pending_typo", PENDING)
    with pytest.raises(ConfigError, match=r"a hook that does not exist: .*borg_lvm_read_comand"):
        manager.load(["typo"])


DISCOVERS = '''
"""Finds one, then fails.

More words.
"""
from borg_lvm.plugin_api import hookimpl

@hookimpl
def borg_lvm_discover():
    yield 1
    raise RuntimeError("no such socket")
'''


def test_who_fails_to_look_around_is_named_with_the_reason(directory: Path) -> None:
    install(directory, "blind", "[borg_lvm]\nblind = discovers_blind\n", "discovers_blind", DISCOVERS)
    with pytest.raises(ConfigError, match="'blind' failed to look around: RuntimeError: no such socket"):
        manager.discover("blind")
    assert manager.about("blind") == ("Finds one, then fails.", ["borg_lvm_discover"])


def test_who_quiesces_nothing_cannot_be_an_application(directory: Path) -> None:
    install(directory, "one", "[borg_lvm]\none = asked_one\n", "asked_one", ASKED)
    with pytest.raises(ConfigError, match="'one' quiesces no application"):
        manager.application("one")
    assert manager.about("one")[0] == "it says nothing of itself"


def test_a_name_like_no_other_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="'xyzzy' is not installed") as caught:
        manager.load(["xyzzy"])
    assert caught.value.remedy.startswith("installed are: borg, borgmatic, ")


@pytest.mark.parametrize("name", ["postgresql", "scripts", "podman"])
def test_a_plugin_for_applications_is_refused_among_hooks_where_it_would_quiesce_nothing(name: str) -> None:
    invocation = Invocation(("borg", "create", "r::a", "/srv"), {}, "/")
    with pytest.raises(ConfigError, match=f"the plugin '{name}' reads no command lines") as caught:
        manager.read_command(["borg", name], invocation)
    assert f"applications: [{{plugin: {name}}}]" in caught.value.remedy
    assert manager.read_command(["borg", "tar"], invocation)


def test_ours_for_applications_lie_where_they_are_refused() -> None:
    ours = [plugin for plugin in manager.installed() if plugin.module.startswith("borg_lvm_hooks.")]
    for plugin in ours:
        _, hooks = manager.about(plugin.name)
        assert plugin.module.startswith(manager.APPLICATIONS) == ("borg_lvm_application" in hooks)
    assert len(ours) > 10
