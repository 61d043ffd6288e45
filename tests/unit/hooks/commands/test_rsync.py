"""What the rsync plugin reads out of command lines, and that its table is that of the installed rsync."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm.plugins.backup_command import Invocation, Reading
from borg_lvm_hooks.commands.parsers import options
from borg_lvm_hooks.commands.rsync import option_table
from borg_lvm_hooks.commands.rsync import plugin as rsync
from borg_lvm_hooks.commands.rsync import reading as rsync_reading


def read(*args: str, cwd: str = "/work", **env: str) -> Reading:
    reading = rsync.borg_lvm_read_command(Invocation(("rsync", *args), {"HOME": "/root", **env}, cwd))
    assert reading is not None
    return reading


def live(reading: Reading) -> dict[str, bool]:
    return {item.path: item.make for item in reading.live}


def test_the_last_word_is_the_destination() -> None:
    reading = read("-aHAX", "--delete", "/etc", "home/", "/b/copy")
    assert reading.sources == ("/etc", "/work/home/")
    assert live(reading) == {"/b/copy": True}
    assert reading.problems == ()


def test_options_may_follow_the_destination() -> None:
    reading = read("/etc", "/b/", "-avxe", "ssh -p 22", "-T=/t", "--exclude", "-x")
    assert reading.sources == ("/etc",)
    assert reading.one_file_system
    assert set(live(reading)) == {"/b/", "/t"}


def test_the_last_word_on_file_systems_counts() -> None:
    assert not read("-ax", "--no-x", "/etc", "/b").one_file_system
    assert read("-a", "--no-one-file-system", "-xx", "/etc", "/b").one_file_system


@pytest.mark.parametrize("destination", ["host:/b", "u@host:b", "[::1]:b", "host:"])
def test_a_remote_destination_needs_ssh(destination: str) -> None:
    assert live(read("-a", "/etc", destination)) == {"/root/.ssh": False}


@pytest.mark.parametrize("destination", ["rsync://host/module", "host::module", "RSYNC://host/m"])
def test_a_daemon_needs_nothing(destination: str) -> None:
    assert live(read("-a", "/etc", destination)) == {}


def test_a_remote_source_is_no_source() -> None:
    for source in ("host:/etc", "host::module/x", "rsync://h/m", ":x"):
        reading = read("-a", source, "/b")
        assert reading.sources == ()
        assert "another machine" in reading.problems[0]
    assert read("-a", "./a:b", "/c:d/", "/b").sources == ("/work/./a:b", "/c:d/")


@pytest.mark.parametrize("args", [("/etc",), ("--list-only", "/etc", "/b"), ("--daemon",), ("--server", ".", "x"), ()])
def test_what_copies_nothing(args: tuple[str, ...]) -> None:
    reading = read(*args)
    assert reading.sources == ()
    assert "reads no source paths" in reading.problems[0]


@pytest.mark.parametrize("option", ["-L", "-k", "--copy-unsafe-links", "--copy-links", "-avL"])
def test_followed_links_are_refused(option: str) -> None:
    assert "symbolic links" in read("-a", option, "/etc", "/b").problems[0]


def test_sources_cannot_be_removed() -> None:
    assert "--remove-source-files" in read("-a", "--remove-source-files", "/etc", "/b").problems[0]


def test_a_file_lands_in_a_directory_that_exists(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert live(read("-a", str(tmp_path / "file"), "/b/name")) == {"/b": False}
    assert live(read("-a", str(tmp_path), "/b/name")) == {"/b/name": True}


def test_the_directories_beside_the_destination() -> None:
    reading = read(
        "-a", "--backup-dir=../old", "--partial-dir", "/p", "--log-file=l/x", "--write-batch=/w/b", "/e/", "/b/"
    )
    assert live(reading) == {"/b/": True, "/b/../old": True, "/p": True, "/work/l": False, "/w": False}
    assert "/b/.part" not in live(read("-a", "--partial-dir=.part", "/e/", "/b/"))
    assert live(read("-a", "--backup-dir=/old", "/e/", "host:/b/")) == {"/root/.ssh": False}


def test_hard_links_need_one_mount_for_both_ends() -> None:
    reading = read("-a", "--link-dest=../2024", "--link-dest=/backup/base", "/etc/", "/backup/2025")
    assert "/backup" in live(reading)


def test_lists_are_relative_to_the_source(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"etc/fstab\n# no\n;no\n\n/srv/\r\n../x/./y\n caf\xe9")
    names = ("etc/fstab", "srv", "x/y", " caf\udce9")
    for source, base in (("/", ""), ("/srv/", "/srv"), ("a", f"{tmp_path}/a")):
        reading = read("-a", "--files-from=list", source, "host:/b", cwd=str(tmp_path))
        assert reading.problems == ()
        assert reading.sources == tuple(f"{base}/{name}" for name in names)
    (tmp_path / "zeros").write_bytes(b"a\nb\0#no\0\0/\0")
    reading = read("-a0", "--files-from=list", "--files-from", "zeros", "/srv", "/b", cwd=str(tmp_path))
    assert reading.sources == ("/srv/a\nb", "/srv")
    assert live(reading) == {"/b": True}
    assert read("-a0", "--files-from=zeros", "--no-from0", "/srv", "/b", cwd=str(tmp_path)).problems


def test_a_list_that_only_rsync_can_read_means_the_whole_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("-", ":list", "host:list", str(tmp_path / "pipe")):
        reading = read("-a", f"--files-from={name}", "/srv", "/b")
        assert reading.sources == ("/srv",), name
        assert reading.problems == ()


def test_a_list_that_rsync_cannot_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    assert "cannot be read" in read("-a", "--files-from=/no/such", "/srv", "/b").problems[0]
    assert "empty" in read("-a", f"--files-from={tmp_path}/empty", "/srv", "/b").problems[0]
    assert "one source" in read("-a", f"--files-from={tmp_path}/empty", "/srv", "/x", "/b").problems[0]


def test_a_destination_that_holds_the_source_is_no_conflict() -> None:
    assert live(read("-a", "/home/a", "/home/")) == {}
    assert "itself a source" in read("-a", "/home/a", "/home/a/").problems[0]


def test_aliases_of_popt_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".popt").write_text("rsync alias -x --copy-links\n")
    assert "aliases" in read("-a", "/etc", "/b", HOME=str(tmp_path)).problems[0]
    (tmp_path / ".popt").write_text("rpm alias -x --y\n")
    assert read("-a", "/etc", "/b", HOME=str(tmp_path)).problems == ()


def test_abbreviations_and_values_of_flags_are_unknown() -> None:
    assert "--recurs" in read("--recurs", "/etc", "/b").problems[0]
    assert "--archive=1" in read("--archive=1", "/etc", "/b").problems[0]


TELLING = {
    *rsync_reading.NOT_A_BACKUP,
    *rsync_reading.FOLLOWS_LINKS,
    *("--remove-source-files", "--remove-sent-files", "--one-file-system", "--files-from"),
}


def harmless() -> st.SearchStrategy[list[str]]:
    known = [option for option in option_table.TABLE.options if option.name not in TELLING]

    def spell(option: options.Option) -> list[str]:
        return [option.name, "1"] if option.takes is options.Takes.VALUE else [option.name]

    return st.sampled_from(known).map(spell)


@given(st.lists(harmless()), st.lists(harmless()))
def test_options_do_not_change_the_sources(before: list[list[str]], among: list[list[str]]) -> None:
    reading = read(*chain(*before), "/etc", *chain(*among), "home", "/b")
    assert reading.sources == ("/etc", "/work/home")
    assert reading.problems == ()


@pytest.mark.process
@pytest.mark.needs("rsync")
def test_the_table_is_that_of_the_installed_rsync() -> None:
    said = subprocess.run(["rsync", "--help"], capture_output=True, text=True, check=True).stdout
    seen = 0
    for line in said.partition("\nOptions\n")[2].splitlines():
        names = re.findall(r"(?<!\S)(--?[\w@-]+)(=)?", line.split("  ")[0])
        value = any(equals for _, equals in names) or "-B" in dict(names) or "-e" in dict(names)
        for name, _ in names:
            if name == "--no-OPTION":
                continue
            option = option_table.TABLE.by_name.get(name)
            assert option is not None, f"rsync has a new option {name}"
            assert (option.takes is options.Takes.VALUE) == value, name
            seen += 1
    assert seen > 150
