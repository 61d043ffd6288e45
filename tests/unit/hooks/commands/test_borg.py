"""What the borg plugin reads out of command lines, and that its tables are those of the installed borgs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm.plugins.backup_command import Invocation, Reading
from borg_lvm_hooks.commands.borg import create, option_tables
from borg_lvm_hooks.commands.borg import plugin as borg
from borg_lvm_hooks.commands.parsers import options
from tests.fuzz import borg as fuzz


def read(*args: str, cwd: str = "/work", **env: str) -> Reading:
    reading = borg.borg_lvm_read_command(Invocation(("borg", *args), {"HOME": "/root", **env}, cwd))
    assert reading is not None
    return reading


def live(reading: Reading) -> dict[str, bool]:
    return {item.path: item.make for item in reading.live}


def test_options_before_and_after_the_command() -> None:
    reading = read("--info", "--lock-wait", "5", "create", "-sx", "-C", "zstd,3", "/repo::{now}", "/etc", "/home")
    assert reading.sources == ("/etc", "/home")
    assert reading.one_file_system
    assert reading.problems == ()


def test_relative_paths_and_the_slashdot() -> None:
    assert read("create", "r::a", "etc", "b/./c").sources == ("/work/etc", "/work/b/./c")


def test_dots_are_taken_out_by_name_as_borg_does() -> None:
    assert read("create", "r::a", "/link/../etc").sources == ("/etc",)


def test_borg_2_names_its_repository_by_an_option() -> None:
    for args in (("create", "-r", "/srv/r", "name", "/etc"), ("--repo=/srv/r", "create", "name", "/etc")):
        reading = read(*args)
        assert reading.sources == ("/etc",)
        assert live(reading)["/srv/r"] is False
        assert live(reading)["/root/.local/share/borg"]


def test_borg_2_takes_the_next_word_for_the_socket_unless_it_is_an_option() -> None:
    for socket in (("--socket", "/run/s"), ("--socket=/run/s",), ("--socket", "--info"), ("--socket",)):
        assert read("create", *socket, "-r", "/srv/r", "name", "/etc").sources == ("/etc",)
        assert read(*socket, "-r", "/srv/r", "create", "name", "/etc").sources == ("/etc",)


def test_borg_2_has_its_directories_right_below_its_base() -> None:
    moved = live(read("create", "-r", "/r", "name", "/etc", BORG_BASE_DIR="/b"))
    assert {"/b/.cache", "/b/.config", "/b/.local/share/borg"} <= set(moved)
    assert {"/b/.cache/borg", "/b/.config/borg"} <= set(live(read("create", "/r::name", "/etc", BORG_BASE_DIR="/b")))
    assert "/root/.cache/borg" in live(read("create", "-r", "/r", "name", "/etc"))


def test_what_gnupg_needs_is_live_where_a_command_tells_the_pass_phrase(tmp_path: Path) -> None:
    (tmp_path / ".gnupg").mkdir()
    told = {"HOME": str(tmp_path), "BORG_PASSCOMMAND": "pass show borg"}
    assert f"{tmp_path}/.gnupg" in live(read("create", "/r::a", "/etc", **told))
    assert f"{tmp_path}/.gnupg" not in live(read("create", "/r::a", "/etc", HOME=str(tmp_path)))
    assert str(tmp_path) in live(read("create", "/r::a", "/etc", **told, GNUPGHOME=str(tmp_path)))
    assert "/no/such" not in live(read("create", "/r::a", "/etc", **told, GNUPGHOME="/no/such"))


def test_borg_2_takes_options_from_elsewhere_too(tmp_path: Path) -> None:
    assert "BORG_CREATE__PATHS" in read("create", "name", "/etc", BORG_CREATE__PATHS="x").problems[0]
    (tmp_path / "default.yaml").write_text("create: {}")
    assert read("create", "name", "/etc", BORG_CONFIG_DIR=str(tmp_path)).problems
    assert read("create", "r::name", "/etc", BORG_CONFIG_DIR=str(tmp_path)).problems == ()


def test_roots_come_from_patterns(tmp_path: Path) -> None:
    file = tmp_path / "patterns"
    file.write_bytes(b"# comment\n\n  R  /srv/a b \r\nr /caf\xe9\n- *.o\nP sh\n+ /x\n!/y\nR relative\n")
    reading = read("create", "--patterns-from", "patterns", "--pattern", "R /opt", "r::a", cwd=str(tmp_path))
    assert reading.sources == ("/srv/a b", os.fsdecode(b"/caf\xe9"), f"{tmp_path}/relative", "/opt")
    assert reading.problems == ()


def test_a_pattern_file_that_is_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = read("create", "--patterns-from", str(tmp_path / "pipe"), "r::a", "/etc")
    assert "not a regular file" in reading.problems[0]
    assert "cannot be read" in read("create", "--patterns-from", "/no/such", "r::a", "/etc").problems[0]


@pytest.mark.parametrize(
    "args",
    [
        ("--paths-from-stdin", "r::a"),
        ("--paths-from-command", "r::a", "--", "find", "/etc"),
        ("--paths-from-shell-command", "r::a", "find /etc"),
    ],
)
def test_paths_from_elsewhere_are_refused(args: Sequence[str]) -> None:
    reading = read("create", *args)
    assert reading.sources == ()
    assert "name the sources with --path" in reading.problems[0]


def test_standard_input_alone_is_no_source() -> None:
    assert read("create", "r::a", "-").sources == ()
    assert "standard input" in read("create", "r::a", "-").problems[0]
    assert read("create", "r::a", "-", "/etc").sources == ("/etc",)
    assert read("create", "r::a", "-", "/etc").problems == ()


def test_two_double_dashes_are_refused() -> None:
    assert read("create", "r::a", "--", "-odd").sources == ("/work/-odd",)
    assert "two --" in read("create", "r::a", "--", "--", "-odd").problems[0]


def test_no_paths_at_all() -> None:
    assert "no paths" in read("create", "r::a").problems[0]


def test_abbreviations_as_argparse_takes_them() -> None:
    assert read("create", "--one", "--patterns", "/dev/null", "r::a", "/etc").one_file_system
    assert "ambiguous" in read("create", "--exclude-", "x", "r::a", "/etc").problems[0]


@pytest.mark.parametrize(
    ("location", "env", "expected"),
    [
        ("/srv/r::a", {}, "/srv/r"),
        ("r::a", {}, "/work/r"),
        ("./r::a", {}, "/work/./r"),
        ("file:///srv/r::a", {}, "/srv/r"),
        ("::a", {"BORG_REPO": "/srv/env"}, "/srv/env"),
        ("/srv/{hostname}/r::a", {}, "/srv"),
        ("/with:colon/r::a", {}, "/with:colon/r"),
    ],
)
def test_a_local_repository_is_live(location: str, env: dict[str, str], expected: str) -> None:
    reading = read("create", location, "/etc", **env)
    assert live(reading)[expected] is False
    assert "/root/.ssh" not in live(reading)


@pytest.mark.parametrize("location", ["user@host:r::a", "host:/r::a", "ssh://u@h:22/./r::a", "[::1]:r::a"])
def test_a_remote_repository_needs_ssh(location: str) -> None:
    reading = read("create", location, "/etc")
    assert "/root/.ssh" in live(reading)
    assert not any(item.reason == "the repository" for item in reading.live)


def test_the_default_directories_are_made() -> None:
    directories = live(read("create", "/r::a", "/etc"))
    assert directories["/root/.cache/borg"]
    assert directories["/root/.config/borg"]
    assert directories["/tmp"] is False


def test_the_environment_moves_the_directories() -> None:
    moved = live(read("create", "/r::a", "/etc", BORG_BASE_DIR="/b", BORG_SECURITY_DIR="/s", TMPDIR="/t"))
    assert {"/b/.cache/borg", "/b/.config/borg", "/s", "/t"} <= set(moved)
    moved = live(read("create", "/r::a", "/etc", XDG_CACHE_HOME="/c", XDG_CONFIG_HOME="/x", BORG_KEYS_DIR="/k"))
    assert {"/c/borg", "/x/borg", "/k"} <= set(moved)
    moved = live(read("create", "/r::a", "/etc", BORG_CACHE_DIR="/c", BORG_CONFIG_DIR="/x", BORG_BASE_DIR="/b"))
    assert {"/c", "/x"} <= set(moved)


def test_a_repository_cannot_be_its_own_source() -> None:
    assert "itself a source" in read("create", "/srv/r::a", "/srv/r/").problems[0]


def test_with_lock_is_followed_when_it_runs_borg() -> None:
    reading = read("with-lock", "/r1", "borg", "create", "/r2::a", "/etc")
    assert reading.sources == ("/etc",)
    assert {"/r1", "/r2"} <= set(live(reading))
    assert read("with-lock", "-r", "/r1", "borg", "create", "n", "/etc").sources == ("/etc",)
    assert "cannot follow" in read("with-lock", "/r1", "rsync", "-a", "/etc", "/b").problems[0]


def test_a_dry_run_is_told() -> None:
    assert read("create", "-n", "r::a", "/etc").dry_run


# Options that change what is read; all others may stand anywhere.
TELLING = {"--help", "--pattern", "--patterns-from", "--repo", "--one-file-system", "--dry-run"}
TELLING |= {create.CONTENT, *create.ELSEWHERE}
OLD, NEW = option_tables.tables((1, 4, 5, option_tables.FINAL)), option_tables.tables((2, 0, 0, 25))


def harmless() -> st.SearchStrategy[list[str]]:
    known = {option.name: option for option in OLD.create.by_name.values() if option.name not in TELLING}

    def spell(option: options.Option) -> list[str]:
        return [option.name] if option.takes is options.Takes.NOTHING else [f"{option.name}=1"]

    return st.sampled_from(list(known.values())).map(spell)


@given(st.lists(harmless()), st.lists(harmless()))
def test_options_do_not_change_the_sources(before: list[list[str]], after: list[list[str]]) -> None:
    reading = read("create", *chain(*before), "/r::a", "/etc", "home", *chain(*after))
    assert reading.sources == ("/etc", "/work/home")
    assert reading.problems == ()


ASK = """
import json, os, sys
# Debian's borg 2 has a folder of its own, which its program puts there.
sys.path[:0] = filter(os.path.isdir, ["/usr/lib/borgbackup2"] if "borg2" in sys.argv else [])
import borg
from borg.archiver import Archiver
parser = Archiver(prog="borg").build_parser()
commands = next(action for action in parser._actions if type(action).__name__ == "_SubParsersAction").choices
def options(parser):
    takes = {0: "nothing", "?": "a value, or none", "+": "values"}
    return [[action.option_strings, takes.get(action.nargs, "a value")] for action in parser._actions
            if action.option_strings]
print(json.dumps({
    "version": borg.__version__,
    "main": options(parser),
    "create": options(commands["create"]),
    "with-lock": options(commands["with-lock"]),
}))
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("interpreter", "program"),
    [(python, os.path.basename(path)) for path, python in fuzz.installed()] or [("none", "")],
)
def test_the_tables_are_those_of_the_installed_borg(interpreter: str, program: str) -> None:
    if interpreter == "none":
        pytest.skip("no borg installed")
    asked = subprocess.run([interpreter, "-I", "-c", ASK, program], capture_output=True, check=False)
    if asked.returncode:
        pytest.skip(f"this borg cannot be asked: {asked.stderr.decode().splitlines()[-1]}")
    said = json.loads(asked.stdout)
    number = option_tables.release(said["version"])
    assert number
    assert number[0] == (2 if program == "borg2" else 1)
    tables = option_tables.tables(number)
    for command, names in {"main": tables.main, "create": tables.create, "with-lock": tables.with_lock}.items():
        asked_for = {name: takes for names_of_one, takes in said[command] for name in names_of_one}
        assert {name: option.takes.value for name, option in names.by_name.items()} == asked_for, command


@pytest.mark.process
def test_borg_reads_the_same_roots(tmp_path: Path) -> None:
    """The real borg's dry run lists what we say that it reads."""
    program = shutil.which("borg", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("no borg installed")
    for name in ("one", "two", "three", "four"):
        (tmp_path / name).mkdir()
    (tmp_path / "patterns").write_text("# roots\n R  two \n\nr three\n- four/x\n")
    environment = {**os.environ, "BORG_BASE_DIR": str(tmp_path / "base")}
    subprocess.run([program, "init", "-e", "none", "repo"], cwd=tmp_path, env=environment, check=True)
    args = [
        "create",
        "--dry-run",
        "--list",
        "--pattern",
        "R one",
        "--patterns-from",
        "patterns",
        "repo::a",
        "x/../four",
    ]
    done = subprocess.run([program, *args], cwd=tmp_path, env=environment, capture_output=True, check=True)
    listed = [os.fsdecode(line[2:]) for line in done.stderr.splitlines() if line[:2] in (b"- ", b"x ", b"+ ")]
    said = read(*args, cwd=str(tmp_path)).sources
    assert [os.path.relpath(source, tmp_path) for source in said] == listed


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (("/r::monday", "/etc"), "monday"),
        (("::monday", "/etc"), "monday"),
        (("ssh://[::1]/r::a::b", "/etc"), "a::b"),
        (("--repo", "/r", "monday", "/etc"), "monday"),
        (("/r::{now}", "/etc"), ""),
        (("/r::{hostname}-1", "/etc"), ""),
        (("--dry-run", "/r::monday", "/etc"), ""),
        ((), ""),
    ],
)
def test_the_archive_is_named_where_borg_does_not_make_its_name(args: tuple[str, ...], name: str) -> None:
    assert read("create", *args, BORG_REPO="/r").archive == name


@pytest.mark.parametrize(
    ("line", "sure"),
    [
        ("list r::a", True),
        ("create --help", True),
        ("create r::a -", True),
        ("create --content-from-command r::a -- pg_dump", True),
        ("create r::a /etc", False),
        ("create r::a - /etc", False),
        ("create --paths-from-stdin r::a", False),
        ("create --content-from-command r::a -- sh -- x", True),
        ("create --content-from-command --nonsense r::a -- sh", False),
        ("create --pattern=R/etc r::a -", False),
        ("create --patterns=/no/such r::a -", False),
        ("create r::a - -5", False),
        ("create r::a - --nonsense", False),
        ("list --nonsense r::a", True),
        ("--nonsense list r::a", False),
        ("with-lock r rsync -a r /mirror", True),
        ("with-lock r sh -c borg", False),
        ("with-lock -h r borg create r::a /etc", True),
        ("--no-such-option x create r::a /etc", False),
        ("with-lock r borg create r::a /etc", False),
        ("with-lock r nice borg create r::a /etc", False),
    ],
)
def test_it_is_told_where_nothing_can_be_read(line: str, sure: bool) -> None:
    assert read(*line.split()).no_paths is sure


def borgmatic_run(tmp_path: Path, *sources: str, databases: bool = False) -> Reading:
    """What borgmatic 2.1.10 gives to borg: its own roots first or last, as a pattern file."""
    runtime = tmp_path / "run" / "borgmatic-x1y2z3a4" / "." / "borgmatic"
    (runtime / "bootstrap").mkdir(parents=True)
    manifest = {"borgmatic_version": "2.1.10", "config_paths": ["/etc/borgmatic/config.yaml", "/srv/conf/link.yaml"]}
    (runtime / "bootstrap" / "manifest.json").write_text(json.dumps(manifest))
    directory = f"{tmp_path}/run/borgmatic-x1y2z3a4/./borgmatic"
    roots = [*sources, f"{directory}/bootstrap", *manifest["config_paths"]]
    roots += [f"{directory}/postgresql_databases"] if databases else []
    (runtime / "tmpx").write_text("".join(f"R {root}\n" for root in roots))
    special = ["--read-special"] if databases else []
    return read("create", "--patterns-from", f"{tmp_path}/run/borgmatic-x1y2z3a4/borgmatic/tmpx", *special, "r::a")


def test_what_borgmatic_adds_to_the_sources_stays_live(tmp_path: Path) -> None:
    reading = borgmatic_run(tmp_path, "/srv", str(tmp_path))
    assert reading.sources == ("/srv", str(tmp_path))
    assert f"{tmp_path}/run/borgmatic-x1y2z3a4" in live(reading)
    assert reading.notes == ("borgmatic also stores its configuration, read live: /etc/borgmatic/config.yaml",)
    assert not reading.no_paths


def test_dumps_of_borgmatic_are_no_devices_of_the_user(tmp_path: Path) -> None:
    reading = borgmatic_run(tmp_path, "/srv", databases=True)
    assert reading.sources == ("/srv",)
    assert not reading.reads_devices
    assert "postgresql_databases are dumped live" in reading.notes[1]
    assert read("create", "--read-special", "r::a", "/srv").reads_devices


def test_dumps_alone_are_nothing_to_freeze(tmp_path: Path) -> None:
    reading = borgmatic_run(tmp_path, databases=True)
    assert reading.sources == ()
    assert reading.no_paths


def test_a_manifest_that_is_none_takes_no_source_away(tmp_path: Path) -> None:
    for content in ("", "[]", '{"config_paths": 5}', '{"config_paths": [5, "etc"]}'):
        bootstrap = tmp_path / "borgmatic-x1y2z3a4" / "borgmatic" / "bootstrap"
        bootstrap.mkdir(parents=True, exist_ok=True)
        (bootstrap / "manifest.json").write_text(content)
        root = f"{tmp_path}/borgmatic-x1y2z3a4/./borgmatic/bootstrap"
        assert read("create", "r::a", "/etc", root, TMPDIR=str(tmp_path)).sources == ("/etc",)
