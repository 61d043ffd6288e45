"""What the tar plugin reads out of command lines, and that it agrees with the installed GNU tar."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm.plugins.backup_command import Invocation, Reading
from borg_lvm_hooks.commands.parsers import options
from borg_lvm_hooks.commands.tar import names as tar_names
from borg_lvm_hooks.commands.tar import option_table
from borg_lvm_hooks.commands.tar import plugin as tar
from borg_lvm_hooks.commands.tar import reading as tar_reading


def read(*args: str, cwd: str = "/work", **env: str) -> Reading:
    reading = tar.borg_lvm_read_command(Invocation(("tar", *args), {"HOME": "/root", **env}, cwd))
    assert reading is not None
    return reading


def live(reading: Reading) -> set[str]:
    return {item.path for item in reading.live}


def test_a_bundle_without_a_dash_takes_its_values_in_order() -> None:
    reading = read("cfC", "/b/a.tar", "/srv", "x", "-v", "y")
    assert reading.sources == ("/srv/x", "/srv/y")
    assert live(reading) == {"/b"}
    assert reading.problems == ()


@pytest.mark.parametrize("mode", ["-c", "--create", "-r", "--append", "-u", "--upd", "c"])
def test_the_modes_that_read(mode: str) -> None:
    assert read(mode, "-f", "/b/a", "/etc").sources == ("/etc",)


@pytest.mark.parametrize("mode", ["-x", "-t", "-d", "-A", "--delete", "--test-label", "xz"])
def test_the_modes_that_do_not(mode: str) -> None:
    assert "reads no source paths" in read(mode, "-f", "/b/a", "etc").problems[0]


def test_directories_change_for_what_follows() -> None:
    reading = read("-cf", "-", "a", "-C", "/one", "b", "--dir=two", "c", "/abs", "-C..", "d", "--add-file", "-e")
    assert reading.sources == ("/work/a", "/one/b", "/one/two/c", "/abs", "/one/two/../d", "/one/two/../-e")
    assert reading.problems == ()


def test_names_are_unquoted() -> None:
    assert read("-cf", "-", r"a\tb", r"\\x", r"\q", "--no-unquote", r"a\tb").sources == (
        "/work/a\tb",
        "/work/\\x",
        r"/work/\q",
        r"/work/a\tb",
    )
    assert tar_names.unquote(r"\303\274") == "ü"
    assert tar_names.unquote(r"\377") == "\udcff"


def test_lists_of_files(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a b\n\n -C /x\ny\n--directory=z\n-Cq\ncaf\xe9\n#odd\n")
    reading = read("-cf", "-", "-C", "/start", "-T", "list", "last", cwd=str(tmp_path))
    assert reading.sources == (
        "/start/a b",
        "/x/y",
        os.fsdecode(b"/x/z/q/caf\xe9"),
        "/x/z/q/#odd",
        "/x/z/q/last",
    )
    assert reading.problems == ()


def test_lists_taken_verbatim(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("-C\nx\n")
    (tmp_path / "zeros").write_bytes(b"-C /x\0a\nb\0")
    reading = read("-cf-", "--verbatim-files-from", "-T", "lines", "--null", "-Tzeros", cwd=str(tmp_path))
    assert reading.sources == tuple(f"{tmp_path}/{name}" for name in ("-C", "x", "-C /x", "a\nb"))


@pytest.mark.parametrize("line", ["-h", "--exclude=x", r"-C a\\ b", "-C", "-C /", "-C x y", "--nix", "-C 'x"])
def test_other_options_in_a_list_are_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"a\n{line}\n")
    assert "does not follow" in read("-cf", "-", "-T", str(tmp_path / "list")).problems[0]


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nested").write_text("-T other\n")
    for name in ("-", str(tmp_path / "pipe"), "/no/such", str(tmp_path / "nested")):
        assert read("-cf", "x", "-T", name).problems, name


def test_options_in_a_list_that_tar_sees(tmp_path: Path) -> None:
    """tar undoes the escapes of a line before it looks for a dash, and takes slashes off its end."""
    (tmp_path / "escaped").write_bytes(b"\\055C /etc\npasswd\n")
    assert read("-cf", "-", "-T", str(tmp_path / "escaped")).sources == ("/etc/passwd",)
    assert read("-cf", "-", "--no-unquote", "-T", str(tmp_path / "escaped")).sources[0] == "/work/\\055C /etc"
    (tmp_path / "quoted").write_bytes(b"\v--dir '/a b/'\nx\n")
    assert read("-cf", "-", "-T", str(tmp_path / "quoted")).sources == ("/a b/x",)


def test_a_list_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("-C d\na\n-T ./list\n")
    reading = read("-cf", "-", "-T", "list", "-C", "/e", "-T", f"{tmp_path}/list", "b", cwd=str(tmp_path))
    assert reading.sources == (f"{tmp_path}/d/a", "/e/b")


def test_a_list_with_zero_bytes(tmp_path: Path) -> None:
    """tar goes on by zero bytes from the first one, whatever it was told."""
    (tmp_path / "list").write_bytes(b"/a\n/b\0/c\nd\0")
    assert read("-cf", "-", "-T", str(tmp_path / "list")).sources == ("/a", "/b", "/c\nd")


def test_a_chain_of_lists_has_an_end(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}").write_text(f"-T {tmp_path}/{number + 1}\n")
    (tmp_path / "100").write_text("a\n")
    assert "more than" in read("-cf", "-", "-T", str(tmp_path / "0")).problems[0]


def test_options_in_the_environment() -> None:
    reading = read("-cf", "-", "x", TAR_OPTIONS="-C /srv --one-file-system")
    assert reading.sources == ("/srv/x",)
    assert reading.one_file_system
    assert read("-cf", "-", "x", TAR_OPTIONS="--exclude='a b' -C '/a b'").sources == ("/a b/x",)
    for odd in ("-C '/a b", "-C /a\\\\b"):
        assert "TAR_OPTIONS" in read("-cf", "-", "x", TAR_OPTIONS=odd).problems[0], odd


def test_followed_links_are_refused() -> None:
    for option in ("-h", "--dereference", "-hcf-"):
        assert "--dereference" in read("-c", option, "/etc").problems[0]
    assert read("-c", "--hard-dereference", "/etc").problems == ()


def test_sources_cannot_be_removed() -> None:
    assert "--remove-files" in read("-cf", "-", "--remove-files", "/etc").problems[0]


def test_what_tar_writes_is_live() -> None:
    reading = read("-cf", "/b/a.tar", "-g", "/var/s/snar", "--index-file=i/x", "--volno-file", "/v/n", "/etc")
    assert live(reading) == {"/b", "/var/s", "/work/i", "/v"}
    assert live(read("-c", "/etc", TAPE="/t/tape")) == {"/t"}
    assert live(read("-cf", "/dev/nst0", "-f-", "/etc")) == set()


def test_an_archive_on_another_machine() -> None:
    assert live(read("-cf", "host:/b/a.tar", "/etc")) == {"/root/.ssh"}
    assert live(read("-cf", "host:/b/a.tar", "--force-local", "/etc")) == {"/work/host:/b"}
    assert live(read("-cf", "/b/a:b.tar", "/etc")) == {"/b"}


def test_an_archive_in_the_directory_that_is_read() -> None:
    assert "itself a source" in read("-cf", "/srv/a.tar", "/srv").problems[0]
    assert read("-cf", "/srv/a.tar", "/srv/data").problems == ()
    assert live(read("-cf", "/srv/a/a.tar", "/srv")) == {"/srv/a"}


def test_incremental_archives_are_told_of_device_numbers() -> None:
    assert "--no-check-device" in read("-cf", "-", "-g", "/s/x", "/etc").notes[0]
    assert read("-cf", "-", "-g", "/s/x", "--no-check-device", "/etc").notes == ()


def test_no_names() -> None:
    assert "no paths" in read("-cf", "/b/a").problems[0]


TELLING = {
    *tar_reading.MODES,
    *tar_reading.PRINTS,
    *tar_names.QUOTING,
    *("--directory", "--files-from", "--add-file", "--dereference", "--remove-files", "--file", "--one-file-system"),
    *("--listed-incremental", "--index-file", "--volno-file"),
}


def harmless() -> st.SearchStrategy[list[str]]:
    known = [option for option in option_table.TABLE.options if option.name not in TELLING]

    def spell(option: options.Option) -> list[str]:
        return [option.name, "1"] if option.takes is options.Takes.VALUE else [option.name]

    return st.sampled_from(known).map(spell)


@given(st.lists(harmless()), st.lists(harmless()))
def test_options_do_not_change_the_sources(before: list[list[str]], among: list[list[str]]) -> None:
    reading = read("-c", *chain(*before), "/etc", *chain(*among), "home")
    assert reading.sources == ("/etc", "/work/home")
    assert reading.problems == ()


def program() -> str:
    found = shutil.which("tar")
    if found is None or b"GNU" not in subprocess.run([found, "--version"], capture_output=True, check=True).stdout:
        pytest.skip("no GNU tar installed")
    return found


@pytest.mark.process
def test_the_table_is_that_of_the_installed_tar() -> None:
    said = subprocess.run([program(), "--help"], capture_output=True, text=True, check=True).stdout
    seen = 0
    for line in said.splitlines():
        match = re.match(r"^ {1,6}(-\S.*?)(?:  .*)?$", line)
        if match is None:
            continue
        names = re.findall(r"(?<![\w\[])(-[^-,\s]|--[\w-]+)(\[?=)?", match[1])
        value = next((takes for _, takes in names if takes), "")
        for name, _ in names:
            option = option_table.TABLE.by_name.get(name)
            assert option is not None, f"tar has a new option {name}"
            assert option.takes.value == {"": "nothing", "=": "a value", "[=": "a value, or none"}[value], name
            seen += 1
    assert seen > 150


CASES: Sequence[Sequence[str]] = [
    ["-cf", "OUT", "a", "d/b"],
    ["cfC", "OUT", "d", "b", "-C", "e", "c"],
    ["cvzf", "OUT", "a"],
    ["-C", "d", "-cf", "OUT", "b", "-Ce", "c"],
    ["-cf", "OUT", "--directory", "d", "--add-file=b", "--add-file", "-dash"],
    ["-cf", "OUT", "-C", "d", "--", "b", "-dash"],
    ["-cf", "OUT", "-T", "list"],
    ["-cf", "OUT", "-C", "d", "-T", "list2"],
    ["-cf", "OUT", "--verbatim-files-from", "-T", "list3"],
    ["-cf", "OUT", "--null", "-T", "zeros"],
    ["-cf", "OUT", "--null", "--no-null", "-T", "list"],
    ["-cf", "OUT", "--verbatim-files-from", "--no-verbatim-files-from", "-T", "list"],
    ["-cf", "OUT", "-T", "quoted"],
    ["-cf", "OUT", "--verbatim-files-from", "-T", "verbatim"],
    ["-cf", "OUT", "--no-unquote", "-T", "verbatim", "--unquote", r"tab\there"],
    ["-cf", "OUT", "--null", "--no-verbatim-files-from", "-T", "quoted0"],
    ["-cf", "OUT", r"tab\there"],
    ["-cf", "OUT", "--no-unquote", r"back\\slash"],
    ["-cf", "OUT", "--unq", r"back\\\\slash"],
    ["--cre", "--file=OUT", "a", "--exclude-vcs", "d/b"],
    ["-c", "-f", "OUT", "-b", "20", "-V", "label", "a"],
]


@pytest.mark.process
@pytest.mark.parametrize("args", CASES, ids=" ".join)
def test_tar_reads_the_same_files(args: Sequence[str], tmp_path: Path) -> None:
    """Each file holds its own path: what the archive holds is what tar has read."""
    work = tmp_path / "work"
    for name in ("a", "d/b", "d/e/c", "e/c", "d/-dash", "-dash", "tab\there", r"back\\slash", "new\nline"):
        file = work / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(file))
    (work / "list").write_text("a\n\n  -C d\nb\n--directory=e\nc\n")
    (work / "list2").write_text("b\n-C e\nc\n")
    (work / "list3").write_text("-dash\na\n")
    (work / "quoted").write_text("tab\\there\nback\\\\\\\\slash\n")
    (work / "quoted0").write_text("tab\\there\0")
    (work / "verbatim").write_text("back\\\\slash\n")
    (work / "zeros").write_bytes(b"-dash\0new\nline\0")
    out = str(tmp_path / "out.tar")
    command = [out if arg == "OUT" else arg.replace("OUT", out) for arg in args]
    subprocess.run([program(), *command], cwd=work, check=True)
    contents = subprocess.run([program(), "-xOf", out], capture_output=True, text=True, check=True).stdout
    said = [os.path.normpath(source) for source in read(*command, cwd=str(work)).sources]
    assert contents == "".join(said)
