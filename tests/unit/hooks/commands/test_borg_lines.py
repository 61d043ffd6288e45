"""Command lines that releases of borg read differently, and that argparse reads otherwise than it looks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from borg_lvm.linux import subprocesses
from borg_lvm.plugins.backup_command import Invocation, Reading
from borg_lvm_hooks.commands.borg import option_tables, version
from borg_lvm_hooks.commands.borg import plugin as borg
from borg_lvm_hooks.commands.borg import reading as borg_reading
from tests.fuzz import borg as fuzz


def read(*args: str, program: str = "/no/such/borg", cwd: str = "/work") -> Reading:
    reading = borg.borg_lvm_read_command(Invocation((program, *args), {"HOME": "/root", "PATH": "/no/such"}, cwd))
    assert reading is not None
    return reading


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each borg says that it is, without a process."""
    release: list[str] = []
    monkeypatch.setattr(version, "ask", lambda _: option_tables.release(release[0]) if release else None)
    return release


def test_an_abbreviation_is_one_if_some_borg_takes_it(tmp_path: Path) -> None:
    (tmp_path / "roots").write_text("R /srv\n")
    for abbreviation in ("--patterns", "--patterns-", "--patterns-from", "--patterns-fr"):
        reading = read("create", f"{abbreviation}={tmp_path}/roots", "r::a", "-")
        assert reading.sources == ("/srv",)
        assert reading.problems == ()
        assert not reading.no_paths
    assert "ambiguous" in read("create", "--pat", "x", "r::a", "/etc").problems[0]


@pytest.mark.parametrize("word", ["-5", "-.5", "-0.5"])
def test_a_negative_number_is_a_path(word: str) -> None:
    reading = read("create", "r::a", "-", word)
    assert reading.sources == (f"/work/{word}",)
    assert not reading.no_paths


@pytest.mark.parametrize("word", ["-o dd", "--odd word", "--new=a b"])
@pytest.mark.parametrize(("release", "location"), [("1.2.4", "r::a"), ("1.4.5", "r::a"), ("2.0.0b25", "name")])
def test_an_unknown_option_with_a_blank_is_a_path(word: str, release: str, location: str, said: list[str]) -> None:
    said.append(release)
    reading = read("create", location, "-", word)
    assert reading.sources == (f"/work/{word}",)
    assert reading.problems == ()


@pytest.mark.parametrize(("release", "location"), [("1.4.99", "r::a"), ("2.0.0b26", "name"), ("", "r::a")])
def test_a_borg_that_is_newer_may_know_it_for_an_option(release: str, location: str, said: list[str]) -> None:
    said += filter(None, [release])
    reading = read("create", location, "-", "--new=a b")
    assert "name the sources with --path" in reading.problems[0]
    assert not reading.no_paths
    assert read("create", location, "/etc", "--", "--new=a b").problems == ()


def test_the_program_is_asked_where_its_releases_differ(said: list[str]) -> None:
    line = ("create", "a::b", "/etc", "--tag=a b")
    said.append("1.4.5")
    assert read(*line).sources == ("/etc", "/work/--tag=a b")
    said[:] = ["2.0.0b25"]
    assert read(*line).sources == ("/etc",)
    said.clear()
    assert "does not say which release" in read(*line).problems[-1]


def test_options_with_several_values_take_the_paths_that_follow(said: list[str]) -> None:
    said.append("2.0.0b24")
    assert read("create", "-r", "/r", "name", "/etc", "--tags", "a", "b").sources == ("/etc",)


def test_a_flag_in_a_flag() -> None:
    """Python's argparse before 3.12 takes `-s=n` for `-s -n`."""
    assert read("create", "-s=n", "r::a", "/etc").dry_run
    assert read("create", "-s=x", "r::a", "/etc").one_file_system


def test_a_dry_run_is_one_only_of_a_line_that_is_understood() -> None:
    assert read("create", "-n", "r::a", "/etc").dry_run
    assert read("create", "-n", "--paths-from-stdin", "r::a").dry_run
    for word in ("--nonsense", "--pat", "--comment", "-Z"):
        assert not read("create", "-n", "r::a", "/etc", word).dry_run


def test_a_dash_among_the_roots_of_a_pattern_is_the_standard_input() -> None:
    assert read("create", "--pattern", "R -", "r::a").no_paths
    assert read("create", "--pattern", "R -", "r::a", "/etc").sources == ("/etc",)


def test_an_empty_path_is_the_working_directory_or_nothing() -> None:
    assert read("create", "r::a", "", "/etc").sources == ("/work/", "/etc")
    assert read("create", "-r", "/r", "--group-by", "x", "name", "", "/etc").sources == ("/etc",)


def test_what_runs_under_a_lock_is_read_through_its_wrappers(said: list[str]) -> None:
    borg_create = ("borg", "create", "r::a", "/etc")
    for before in (("nice", "-n", "10"), ("--",), ("env", "A=b", "nice"), ("timeout", "1h")):
        assert read("with-lock", "/r", *before, *borg_create).sources == ("/etc",)
    assert read("with-lock", "--info", "/r", "--debug", *borg_create).sources == ("/etc",)
    assert read("with-lock", "-r", "/r", "nice", "borg", "create", "-r", "/r", "name", "/etc").sources == ("/etc",)
    for unknown in (("sh", "-c", "borg create r::a /etc"), ("chpst", "-n", "10", *borg_create), ("/root/borg.sh",)):
        reading = read("with-lock", "/r", *unknown)
        assert "cannot follow" in reading.problems[0]
        assert not reading.no_paths


def test_locks_in_locks_have_an_end() -> None:
    line = ["with-lock", "/r", "borg"] * 5000
    assert "cannot follow" in read(*line, "create", "r::a", "/etc").problems[0]


def test_other_sources_of_options_are_refused() -> None:
    assert not read("--config", "f", "create", "-r", "/r", "name", "-").no_paths
    assert "--config" in read("--config", "f", "create", "-r", "/r", "name", "/etc").problems[0]


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "\udcff" * 300])
def test_names_that_are_none_are_told(path: str) -> None:
    assert read("create", "--patterns-from", path, "r::a", "/etc").problems
    read("create", "r::a", path)
    read(path, path, program=f"{path}/borg")
    assert version.ask(Invocation((path, "create"), {"PATH": path}, path)) is None


def test_options_that_others_add_are_read_for_all_releases() -> None:
    assert borg_reading.extra_options("--sparse --exclude-nodump").unknown == ()
    assert borg_reading.extra_options("--one").has("--one-file-system")
    assert borg_reading.extra_options("--nonsense").unknown == ("--nonsense",)
    with pytest.raises(ValueError, match="quotation"):
        borg_reading.extra_options("--comment 'a")


def test_releases_are_read_as_borg_prints_them() -> None:
    ordered = ["1.1.18", "1.2.4", "1.4.5rc1", "1.4.5", "2.0.0b5", "2.0.0b25", "2.0.0", "2.1.0"]
    assert sorted(map(option_tables.release, ordered), key=lambda number: number or ()) == [
        option_tables.release(text) for text in ordered
    ]
    assert option_tables.release("1.4.1.dev3+gabc123") == option_tables.release("1.4.1")
    assert option_tables.release("nonsense") is None


@pytest.mark.process
def test_each_installed_borg_says_its_release() -> None:
    for path, _ in fuzz.installed():
        number = version.ask(Invocation((path, "create"), {}, "/"))
        assert number
        assert number[0] == (2 if path.endswith("2") else 1)


@pytest.mark.process
def test_a_program_is_asked_once_until_it_is_another_one(tmp_path: Path) -> None:
    program, asked = tmp_path / "borg", tmp_path / "asked"
    invocation = Invocation(("borg", "create"), {"PATH": str(tmp_path)}, "/")
    for number, release in enumerate(("1.2.4", "2.0.0b5"), start=1):
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/sh\necho x >>{asked}\necho borg {release}\n")
        program.chmod(0o755)
        os.utime(program, ns=(number, number))
        assert [version.ask(invocation) for _ in range(3)] == [option_tables.release(release)] * 3
        assert asked.read_text() == "x\n" * number


@pytest.mark.process
def test_a_program_that_does_not_answer_is_left_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "borg"
    program.write_text("#!/bin/sh\nsleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(version, "TIMEOUT", 0.2)
    assert version.ask(Invocation((str(program), "create"), {}, "/")) is None


@pytest.mark.process
def test_what_belongs_to_a_user_is_not_asked_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    program = tmp_path / "borg"
    program.write_text('#!/bin/sh\necho "borg 1.2.$(id -u)"\n')
    program.chmod(0o755)
    for directory in (*tmp_path.parents[:3], tmp_path):
        directory.chmod(0o755)
    os.chown(program, subprocesses.NOBODY, subprocesses.NOBODY)
    assert version.ask(Invocation((str(program), "create"), {}, "/")) == (
        1,
        2,
        subprocesses.NOBODY,
        option_tables.FINAL,
    )
