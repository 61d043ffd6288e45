"""Files that others could change or read are refused, with the command that repairs it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm import config
from borg_lvm.errors import ConfigError
from borg_lvm.linux import permissions

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "etc dir"
    directory.mkdir(mode=0o755)
    (directory / "c.yaml").write_text("deadline: 5")
    (directory / "c.yaml").chmod(0o644)
    yield directory
    directory.chmod(0o755)


def refusal(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        permissions.refuse_writable_by_others(str(path))
    return caught.value


def test_a_file_of_ours_is_trusted_even_below_a_sticky_directory(home: Path) -> None:
    home.parent.chmod(0o1777)
    permissions.refuse_writable_by_others(str(home / "c.yaml"))
    assert config.load(str(home / "c.yaml")).deadline == 5


@pytest.mark.parametrize(("mode", "who"), [(0o664, "its group"), (0o646, "everybody"), (0o622, "everybody")])
def test_a_file_that_others_can_write(home: Path, mode: int, who: str) -> None:
    (home / "c.yaml").chmod(mode)
    error = refusal(home / "c.yaml")
    assert error.details == (f"{home}/c.yaml can be written by {who}",)
    subprocess.run(shlex.split(error.remedy), check=True)
    permissions.refuse_writable_by_others(str(home / "c.yaml"))


def test_a_directory_that_others_can_write(home: Path) -> None:
    home.chmod(0o775)
    error = refusal(home / "c.yaml")
    assert error.remedy == f"chmod go-w '{home}'"
    subprocess.run(shlex.split(error.remedy), check=True)
    permissions.refuse_writable_by_others(str(home / "c.yaml"))


def test_nobody_is_told_to_close_a_directory_for_all_users(home: Path) -> None:
    home.chmod(0o1777)  # such as /tmp: without it the server does not work
    error = refusal(home)
    assert error.details == (f"{home} lets others put files into it",)
    assert error.remedy == "name a directory that only root can write"


def test_a_file_directly_in_a_sticky_directory(home: Path) -> None:
    home.chmod(0o1777)
    error = refusal(home / "c.yaml")
    assert error.details == (f"{home}/c.yaml lies in {home}, where everybody can put links and files",)
    assert "move it" in error.remedy


@pytest.mark.parametrize(("mode", "refused"), [(0o1775, False), (0o1777, True)])
def test_a_file_in_the_store_of_nixos(home: Path, monkeypatch: pytest.MonkeyPatch, mode: int, refused: bool) -> None:
    """Its group builds what is there, and each file has a name of its own for ever."""
    home.chmod(mode)
    monkeypatch.setattr(permissions, "_STORES", (str(home),))
    assert bool(permissions.writable_by_others(str(home / "c.yaml"))) is refused


def test_a_sticky_directory_that_is_itself_searched(home: Path) -> None:
    home.chmod(0o1777)
    assert "lets others put files into it" in refusal(home).details[0]


def test_both_sides_of_a_link_count(home: Path) -> None:
    other = home / "other"
    other.mkdir(mode=0o755)
    (other / "link.yaml").symlink_to("../c.yaml")
    permissions.refuse_writable_by_others(str(other / "link.yaml"))
    other.chmod(0o777)
    assert refusal(other / "link.yaml").remedy == f"chmod go-w '{other}'"
    other.chmod(0o755)
    (home / "c.yaml").chmod(0o666)
    assert refusal(other / "link.yaml").remedy == f"chmod go-w '{home}/c.yaml'"


def test_a_directory_that_is_passed_twice_is_told_once(home: Path) -> None:
    (home / "here").symlink_to(home)
    home.chmod(0o775)
    assert refusal(home / "here" / "c.yaml").details == (f"{home} can be written by its group",)


def test_dots_are_followed_as_the_kernel_does(home: Path) -> None:
    away = home / "away" / "deep"
    away.parent.mkdir(mode=0o755)
    away.mkdir(mode=0o755)
    (home / "link").symlink_to(away)
    (home / "away" / "c.yaml").write_text("")
    (home / "away" / "c.yaml").chmod(0o666)
    assert [unsafe.path for unsafe in permissions.writable_by_others(f"{home}/link/../c.yaml")] == [
        f"{home}/away/c.yaml"
    ]


def test_a_relative_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    (home / "c.yaml").chmod(0o666)
    assert [unsafe.path for unsafe in permissions.writable_by_others("./c.yaml")] == [f"{home}/c.yaml"]


def test_links_in_a_circle_and_missing_files_are_errors(home: Path) -> None:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")
    assert "symbolic links" in refusal(home / "a").message
    assert "No such file" in refusal(home / "none").message


@as_root
def test_everything_wrong_is_told_at_once(home: Path) -> None:
    os.chown(home / "c.yaml", 1234567, 0)
    (home / "c.yaml").chmod(0o666)
    os.chown(home, 1, 0)
    error = refusal(home / "c.yaml")
    assert len(error.details) == 3
    assert f"{home}/c.yaml belongs to the user id 1234567" in error.details
    for command in error.remedy.split("; "):
        subprocess.run(shlex.split(command), check=True)
    permissions.refuse_writable_by_others(str(home / "c.yaml"))


@as_root
def test_a_link_of_somebody_else(home: Path) -> None:
    (home / "l").symlink_to("c.yaml")
    os.chown(home / "l", 1, 1, follow_symlinks=False)
    error = refusal(home / "l")
    subprocess.run(shlex.split(error.remedy), check=True)
    permissions.refuse_writable_by_others(str(home / "l"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_secret_that_others_can_read(home: Path, mode: int) -> None:
    key = home / "c.yaml"
    key.chmod(mode)
    with pytest.raises(ConfigError, match="not kept secret") as caught:
        permissions.refuse_readable_by_others(str(key))
    assert caught.value.remedy == f"chmod go-rwx '{key}'"
    subprocess.run(shlex.split(caught.value.remedy), check=True)
    permissions.refuse_readable_by_others(str(key))


def test_unsafe_configuration_is_named_and_not_read(home: Path) -> None:
    (home / "c.yaml").write_text("deadline: wrong")
    (home / "c.yaml").chmod(0o646)
    with pytest.raises(ConfigError) as caught:
        config.load(str(home / "c.yaml"))
    assert "not trusted" in caught.value.message
    assert f"chmod go-w '{home}/c.yaml'" in caught.value.message
    assert "deadline" not in caught.value.message


def test_a_directory_of_snippets_that_others_can_write_is_refused_though_empty(home: Path) -> None:
    (home / "conf.d").mkdir()
    (home / "conf.d").chmod(0o1777)
    with pytest.raises(ConfigError, match="lets others put files into it"):
        config.load(directory=str(home))
