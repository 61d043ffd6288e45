"""What is refused before anything is done, and where what `begin` has mounted is said to be."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from borg_lvm.cli import drop_in, main, options, values
from borg_lvm.cli.parser import parser
from borg_lvm.errors import CommandNotExecutableError, CommandNotFoundError, UsageError
from borg_lvm.log import Log


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in PATH with a program, a file that is none, and a directory that has a program's mode."""
    (tmp_path / "bin" / "folder").mkdir(parents=True)
    for name, mode in (("works", 0o755), ("plain file", 0o644)):
        (tmp_path / "bin" / name).touch()
        (tmp_path / "bin" / name).chmod(mode)
    monkeypatch.setenv("PATH", f"{tmp_path}/none:{tmp_path}/bin")
    return tmp_path / "bin"


def test_what_a_shell_would_start_is_not_refused(programs: Path) -> None:
    options.refuse_what_cannot_be_run("works")
    options.refuse_what_cannot_be_run(f"{programs}/works")


@pytest.mark.parametrize(
    ("name", "message", "remedy"),
    [
        ("folder", "is a directory, not a command", "one --path for each source"),
        ("plain file", "Permission denied", "name a program, or make it one: chmod +x '"),
    ],
)
def test_what_is_there_and_no_program_is_126(programs: Path, name: str, message: str, remedy: str) -> None:
    with pytest.raises(CommandNotExecutableError, match=message) as caught:
        options.refuse_what_cannot_be_run(f"{programs}/{name}")
    assert caught.value.status == 126
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("folder", "check the spelling"),
        ("./works", "check the spelling"),
        ("borg create r::a /srv", "give the command and its arguments as words of their own"),
        ("", "check the spelling"),
    ],
)
def test_what_is_not_found_is_127_and_one_word_in_quotes_is_explained(
    programs: Path, monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    monkeypatch.chdir(programs.parent)
    with pytest.raises(CommandNotFoundError, match="command not found; nothing was done") as caught:
        options.refuse_what_cannot_be_run(name)
    assert caught.value.status == 127
    assert caught.value.remedy.startswith(remedy)


def test_a_working_directory_that_is_gone_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="the working directory is gone: No such file or directory"):
        options.cwd()


def printed(*words: str) -> tuple[str, ...]:
    return options.to_be_printed(parser("begin").parse_args(["begin", *words]))


def test_begin_prints_where_each_path_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    view = "/run/borg-lvm/view/night"
    assert printed("night", "--print", "paths", "--path", "/srv/../srv/a", "--path", "b") == (
        f"{view}/srv/a",
        f"{view}{tmp_path}/b",
    )
    assert printed("night", "--print", "directory") == ("/run/borg-lvm/view/night",)
    assert printed("night", "--print", "kopia", "--path", "/srv") == (f"KOPIA_SNAPSHOT_PATH={view}/srv",)
    with pytest.raises(UsageError, match="only one directory at a time"):
        printed("night", "--print", "kopia", "--path", "/srv", "--path", "/home")
    with pytest.raises(UsageError, match="cannot be the name of a view"):
        printed("../night", "--print", "directory")


def test_clean_goes_on_without_a_configuration_that_is_wrong(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("snapshot:\n  grwo: true\n")
    args = parser("clean").parse_args(["clean", "--config", str(tmp_path / "config.yaml")])
    assert options.settings_or_defaults(args, Log()).paths == ()
    said = capfd.readouterr().err
    assert said.startswith("borg-lvm: warning: going on without the configuration: ")
    assert "grwo" in said


@pytest.mark.parametrize(("text", "why"), [("a\0b", "it has a zero byte"), ("\ud800", "cannot be written in UTF-8")])
def test_a_path_that_cannot_be_is_refused(text: str, why: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=why):
        values.path(text)
    assert values.path(os.fsdecode(b"/srv/\xe9")) == "/srv/\udce9"


@pytest.mark.parametrize(
    ("text", "status"), [("0", 0), ("255", 255), ("TERM", 143), ("", None), ("256", "no"), ("FLY", "no"), ("-1", "no")]
)
def test_the_status_of_a_shell_or_of_systemd(text: str, status: object) -> None:
    if status == "no":
        with pytest.raises(argparse.ArgumentTypeError, match=f"not '{text}'"):
            values.status(text)
    else:
        assert values.status(text) == status


def test_an_interrupt_outside_of_a_run_is_no_bug(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise KeyboardInterrupt

    assert main.answered(work, Log()) == 130
    assert capfd.readouterr().err == "borg-lvm: error: ended by SIGINT\n"


def test_the_version_goes_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    shown = capfd.readouterr()
    assert shown.out.startswith("borg-lvm 0.")
    assert shown.err == ""


@pytest.mark.parametrize(
    ("words", "quiet", "as_json"),
    [
        (["borg", "create", "r::a", "/srv"], True, False),
        (["borg", "create", "--info", "r::a", "/srv"], False, False),
        (["borg", "create", "--log-json", "r::a", "/srv"], True, True),
        (["borg", "create", "r::a", "--", "--log-json", "-v"], True, False),
        (["--", "borg", "create", "-v", "r::a"], False, False),
    ],
)
def test_in_the_place_of_borg_as_much_is_said_as_borg_says(words: list[str], quiet: bool, as_json: bool) -> None:
    log = drop_in.log("borg", words)
    assert (log.quiet, log.as_json) == (quiet, as_json)


def test_restic_has_no_json_of_borgs() -> None:
    assert not drop_in.log("restic", ["restic", "backup", "--log-json", "/srv"]).as_json
