"""What the restic plugin reads out of command lines, and that its tables are those of the installed restic."""

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
from borg_lvm_hooks.commands.parsers import go_paths, options
from borg_lvm_hooks.commands.restic import plugin as restic
from borg_lvm_hooks.commands.restic import reading as restic_reading


def read(*args: str, cwd: str = "/work", **env: str) -> Reading:
    reading = restic.borg_lvm_read_command(Invocation(("restic", *args), {"HOME": "/root", **env}, cwd))
    assert reading is not None
    return reading


def live(reading: Reading) -> dict[str, bool]:
    return {item.path: item.make for item in reading.live}


def test_options_stand_before_and_after_the_command_and_among_the_paths() -> None:
    reading = read("-r", "/srv/r", "-qv", "backup", "/etc", "--tag", "x", "-xe*.o", "home", "--", "-odd")
    assert reading.sources == ("/etc", "/work/home", "/work/-odd")
    assert reading.one_file_system
    assert reading.problems == ()


@pytest.mark.parametrize(
    ("line", "sources", "repository"),
    [
        ("backup -vr /r /etc", ("/etc",), "/r"),
        ("backup -vve *.o /etc -r /r", ("/etc",), "/r"),
        ("backup -vn /etc -r=/r", ("/etc",), "/r"),
        ("backup --verbose 2 /etc -r /r", ("/work/2", "/etc"), "/r"),
        ("-e *.o --tag x backup /etc -r /r", ("/etc",), "/r"),
        ("-xe*.o -r /r backup /etc", ("/etc",), "/r"),
        ("-r /r backup backup /etc", ("/work/backup", "/etc"), "/r"),
        ("backup -r /r -- -v /etc", ("/work/-v", "/etc"), "/r"),
    ],
)
def test_values_are_taken_as_pflag_takes_them(line: str, sources: tuple[str, ...], repository: str) -> None:
    """An optional value comes by `=` only; the options of backup may stand before its word."""
    reading = read(*line.split())
    assert reading.problems == ()
    assert reading.sources == sources
    assert [item.path for item in reading.live if item.reason == "the repository"] == [repository]
    assert reading.one_file_system == ("-x" in line)


@pytest.mark.parametrize("line", ["-p backup -r /r backup /etc", "backup -v= /etc", "backup /etc --tag", "-Z backup x"])
def test_what_versions_of_restic_read_differently_or_not_at_all(line: str) -> None:
    reading = read(*line.split())
    assert reading.problems
    assert not reading.no_paths


def test_what_comes_before_no_command_is_no_backup() -> None:
    """cobra takes the word after an option that it does not know for its value, and finds no command."""
    for line in ("-- backup /etc", "-r backup", "--help", ""):
        assert read(*line.split()).action == "", line
        assert read(*line.split()).no_paths, line


def test_switches_take_values_by_equals_signs() -> None:
    assert not read("backup", "-x", "--one-file-system=false", "/etc").one_file_system
    assert read("backup", "-x=true", "/etc").one_file_system
    assert "itself will refuse" in read("backup", "--one-file-system=maybe", "/etc").problems[0]
    assert read("backup", "--stdin=false", "/etc").sources == ("/etc",)


def test_abbreviations_are_unknown() -> None:
    assert "--one" in read("backup", "--one", "/etc").problems[0]


def test_dots_are_taken_out_by_name() -> None:
    assert read("backup", "a/../etc", "/x/../y").sources == ("/work/etc", "/y")


def test_lists_come_first_in_restics_order(tmp_path: Path) -> None:
    (tmp_path / "a1").touch()
    (tmp_path / "a2").touch()
    (tmp_path / "globs").write_bytes(b"# comment\n\n  a* \n/no/such\r\n")
    (tmp_path / "plain").write_bytes(b"# not a comment\n\n /a b \na*\n")
    (tmp_path / "raw").write_bytes(b"/one\0/tw\no\0/caf\xe9\0")
    args = ["--files-from-raw=raw", "--files-from-verbatim", "plain", "--files-from", "globs"]
    assert read("backup", "/last", *args, cwd=str(tmp_path)).sources == (
        f"{tmp_path}/a1",
        f"{tmp_path}/a2",
        f"{tmp_path}/# not a comment",
        f"{tmp_path}/ /a b ",
        f"{tmp_path}/a*",
        "/one",
        "/tw\no",
        os.fsdecode(b"/caf\xe9"),
        "/last",
    )


def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path) -> None:
    (tmp_path / "utf16").write_text("/ä\n", encoding="utf-16")
    (tmp_path / "utf8").write_bytes(b"\xef\xbb\xbf/b\n")
    args = ["--files-from-verbatim", "utf16", "--files-from-verbatim", "utf8"]
    assert read("backup", *args, cwd=str(tmp_path)).sources == ("/ä", "/b")


def test_lists_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bad").write_text("/etc/[\n")
    (tmp_path / "raw").write_bytes(b"/etc")
    for option, file in (
        ("--files-from", "-"),
        ("--files-from-raw", "-"),
        ("--files-from", "pipe"),
        ("--files-from", "missing"),
        ("--files-from", "bad"),
        ("--files-from-raw", "raw"),
    ):
        assert read("backup", option, file, "/etc", cwd=str(tmp_path)).problems, (option, file)


def test_standard_input_is_no_source() -> None:
    assert "no source paths" in read("backup", "--stdin").problems[0]
    reading = read("backup", "--stdin-from-command", "--", "pg_dump", "/x")
    assert reading.sources == ()
    assert reading.problems


@pytest.mark.parametrize(
    ("args", "env", "path"),
    [
        (("-r/srv/r",), {}, "/srv/r"),
        (("-r=/srv/r",), {}, "/srv/r"),
        (("--repo", "local:/srv/r"), {}, "/srv/r"),
        (("-r", "r"), {}, "/work/r"),
        ((), {"RESTIC_REPOSITORY": "/srv/env"}, "/srv/env"),
        (("-r", "rclone:/srv/r"), {}, "/srv/r"),
    ],
)
def test_a_local_repository_is_live(args: tuple[str, ...], env: dict[str, str], path: str) -> None:
    assert live(read(*args, "backup", "/etc", **env))[path] is False


def test_the_repository_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "repository"
    file.write_text(" /srv/r \n")
    assert "/srv/r" in live(read("--repository-file", str(file), "backup", "/etc"))
    assert "/srv/r" in live(read("backup", "/etc", RESTIC_REPOSITORY_FILE=str(file)))
    assert "cannot be read" in read("backup", "/etc", RESTIC_REPOSITORY_FILE="/no/such").problems[0]


def test_the_network_needs_its_own_directories() -> None:
    assert "/root/.ssh" in live(read("-r", "sftp:u@h:/r", "backup", "/etc"))
    assert {"/root/.config/rclone", "/root/.cache/rclone"} <= set(live(read("-r", "rclone:a:b", "backup", "/etc")))
    for repository in ("s3:host/b", "rest:http://h/", "b2:x:y", "azure:c:/", "gs:b:/", "swift:c:/"):
        assert set(live(read("-r", repository, "backup", "/etc"))) == {"/root/.cache/restic", "/tmp"}


def test_the_cache_is_where_restic_looks_for_it() -> None:
    assert live(read("backup", "/etc"))["/root/.cache/restic"]
    assert live(read("backup", "/etc", XDG_CACHE_HOME="/c"))["/c/restic"]
    assert live(read("backup", "/etc", RESTIC_CACHE_DIR="/e", XDG_CACHE_HOME="/c"))["/e"]
    assert live(read("--cache-dir", "/f", "backup", "/etc", RESTIC_CACHE_DIR="/e"))["/f"]
    assert "/root/.cache/restic" not in live(read("backup", "--no-cache", "/etc"))


TELLING = ("files-from", "stdin", "one-file-system", "help", "repo", "cache")


def harmless() -> st.SearchStrategy[list[str]]:
    known = [
        option for option in restic_reading.BACKUP_TABLE.options if not any(word in option.name for word in TELLING)
    ]

    def spell(option: options.Option) -> list[str]:
        return [option.name, "1"] if option.takes is options.Takes.VALUE else [option.name]

    return st.sampled_from(known).map(spell)


def test_what_gnupg_needs_is_live_where_a_command_tells_the_password(tmp_path: Path) -> None:
    (tmp_path / ".gnupg").mkdir()
    words = ("-r", "/r", "backup", "/etc")
    assert f"{tmp_path}/.gnupg" in live(read("--password-command", "pass show x", *words, HOME=str(tmp_path)))
    assert f"{tmp_path}/.gnupg" in live(read(*words, HOME=str(tmp_path), RESTIC_PASSWORD_COMMAND="pass show x"))
    assert f"{tmp_path}/.gnupg" not in live(read(*words, HOME=str(tmp_path)))


@given(st.lists(harmless()), st.lists(harmless()))
def test_options_do_not_change_the_sources(among: list[list[str]], after: list[list[str]]) -> None:
    reading = read("backup", "/etc", *chain(*among), "home", *chain(*after))
    assert reading.sources == ("/etc", "/work/home")
    assert reading.problems == ()


@pytest.mark.parametrize(
    ("pattern", "matches", "misses"),
    [
        ("a*", ("a", "ab", "a.b"), ("ba", "a/b")),
        ("*", ("", ".hidden", "x"), ("a/b",)),
        ("?", ("x", "ü"), ("", "xy", "/")),
        ("[a-c]x", ("ax", "cx"), ("dx", "-x")),
        ("[^a-c]", ("d", "-"), ("a",)),
        ("[!a]", ("!", "a"), ("b",)),
        (r"[\]a]", ("]", "a"), ("\\",)),
        (r"\*", ("*",), ("a",)),
        ("a{b,c}", ("a{b,c}",), ("ab",)),
        ("]", ("]",), ("a",)),
    ],
)
def test_gos_patterns(pattern: str, matches: tuple[str, ...], misses: tuple[str, ...]) -> None:
    expression = go_paths.go_pattern(pattern)
    assert [name for name in matches if not expression.fullmatch(name)] == []
    assert [name for name in misses if expression.fullmatch(name)] == []


@pytest.mark.parametrize("pattern", ["[", "[a", "[]a]", "[-a]", "[a-]", "a\\", "[^", "[a\\"])
def test_gos_malformed_patterns(pattern: str) -> None:
    with pytest.raises(go_paths.BadGlobError):
        go_paths.go_pattern(pattern)


FLAG = re.compile(r"^\s+(?:(-\w), )?\s*(--[\w-]+)(?: ([a-z]\S*))?(?:\s{2,}|$)")
SWITCHES_WITH_A_WORD = {"--verbose"}


@pytest.mark.process
@pytest.mark.needs("restic")
def test_the_tables_are_those_of_the_installed_restic() -> None:
    said = subprocess.run(["restic", "backup", "--help"], capture_output=True, text=True, check=True).stdout
    found = [match.groups() for match in map(FLAG.match, said.splitlines()) if match]
    assert len(found) > 40
    for short, name, value in found:
        option = restic_reading.BACKUP_TABLE.by_name.get(name)
        assert option is not None, f"restic backup has a new option {name}"
        if name not in SWITCHES_WITH_A_WORD:
            assert (option.takes is options.Takes.VALUE) == (value is not None), name
        if short:
            assert restic_reading.BACKUP_TABLE.by_name[short] is option


@pytest.mark.process
@pytest.mark.needs("restic")
def test_restic_expands_the_same_names(tmp_path: Path) -> None:
    """The real restic's dry run finds the files that our globs find."""
    tree = tmp_path / "tree"
    for name in ("a1", "a2", ".a3", "b[1]", "sub/x1", "sub/y", ".hid/x9", "sub2/x2", "c\\d", "ä", "-"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    globs = ["a?", "*[13]", r"b\[1]", "s*/x*", "*/x[^1]", "./sub/../a1", "c\\\\d", "[ä]", "nope*", "[^a-z.]"]
    (tmp_path / "list").write_text("\n".join(globs) + "\n")
    environment = {**os.environ, "RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(tmp_path / "repo")}
    subprocess.run(["restic", "init"], env=environment, check=True)
    args = ["backup", "--dry-run", "-vv", "--no-cache", "--files-from", str(tmp_path / "list")]
    done = subprocess.run(["restic", *args], cwd=tree, env=environment, capture_output=True, text=True, check=True)
    listed = {line.split("new", 1)[1].split(",")[0].strip() for line in done.stdout.splitlines() if "new   " in line}
    listed = {name for name in listed if name.startswith("/") and not name.endswith("/")}
    ours = {os.path.relpath(source, tree) for source in read(*args, cwd=str(tree)).sources}
    assert {name.removeprefix(f"{tree}/").lstrip("/") for name in listed} == ours


def test_it_is_told_where_nothing_can_be_read() -> None:
    for line, sure in (
        ("snapshots", True),
        ("backup --stdin", True),
        ("backup --help", True),
        ("backup /etc", False),
        ("backup --stdin=false /etc", False),
        ("backup --files-from -", False),
        ("--no-such-option x backup /etc", False),
        ("backup --stdin --no-such-option", False),
        ("backup --help -v= /etc", False),
        ("-p backup -q backup --stdin", False),
    ):
        assert read(*line.split()).no_paths is sure, line


def test_a_line_that_is_not_understood_is_no_dry_run() -> None:
    """A dry run may go on without borg-lvm: so it must be sure."""
    assert read("backup", "-n", "/etc").dry_run
    assert not read("backup", "-n", "/etc", "--no-such-option").dry_run
    assert not read("-p", "backup", "-q", "backup", "-n", "/etc").dry_run
