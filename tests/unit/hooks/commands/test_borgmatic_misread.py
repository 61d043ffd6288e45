"""Command lines and configurations of borgmatic that were once read otherwise than borgmatic reads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from borg_lvm.plugins.backup_command import Invocation, Reading
from borg_lvm.session.command_sources import _way_out
from borg_lvm_hooks.commands.borgmatic import additions
from borg_lvm_hooks.commands.borgmatic import plugin as borgmatic

Read = Callable[..., Reading]
REPOSITORY = "repositories: [{path: /srv/r}]\n"
OLD = "location:\n    repositories: [/srv/r]\n"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read `borgmatic -c FILE create …` with this text as its configuration."""

    def one(text: str, *args: str, **env: str) -> Reading:
        file = tmp_path / "config.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        return run("-c", str(file), *(args or ("create",)), cwd=str(tmp_path), **env)

    return one


def run(*args: str, cwd: str = "/work", **env: str) -> Reading:
    invocation = Invocation(("borgmatic", *args), {"HOME": "/root/home", **env}, cwd)
    reading = borgmatic.borg_lvm_read_command(invocation)
    assert reading is not None
    return reading


@pytest.mark.parametrize("line", ["r /x", "R\t/x", "R/x", "r/x", "R  /x", " R /x ", "R /x\x0b", "R /x\x85"])
def test_a_root_in_a_pattern_file_is_what_borg_takes_for_one(read: Read, tmp_path: Path, line: str) -> None:
    (tmp_path / "patterns").write_text(f"- *.o\n{line}\n")
    reading = read(OLD + f"    patterns_from: [{tmp_path}/patterns]\n")
    assert (reading.sources, reading.problems) == (("/x",), ())


@pytest.mark.parametrize("gap", ["\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x1c"])
def test_a_pattern_file_has_python_s_lines_and_no_others(read: Read, tmp_path: Path, gap: str) -> None:
    (tmp_path / "patterns").write_text(f"R /a{gap}R /b\r\nR /c\rR /d\n")
    reading = read(REPOSITORY + f"patterns_from: [{tmp_path}/patterns]\n")
    assert (reading.sources, reading.problems) == ((f"/a{gap}R /b", "/c", "/d"), ())


def test_an_entry_of_patterns_may_be_several_lines_to_borg(read: Read, tmp_path: Path) -> None:
    text = REPOSITORY + 'patterns: ["R /a\\rR /b", "- *.o\\nR /c", "R  /two", "R fm:/x"]\n'
    assert read(text).sources == ("/a", "/b", "/c", "/two", f"{tmp_path}/fm:/x")


def test_constants_that_use_each_other_are_resolved_by_name(read: Read) -> None:
    text = REPOSITORY + "constants: {b: '{a}/y', a: /x}\nsource_directories: ['{b}']\n"
    assert read(text).sources == ("/x/y",)
    text = REPOSITORY + "constants: {a: '{b}/y', b: /x}\nsource_directories: ['/{a}']\n"
    assert read(text).sources == ("/x/y",)
    text = REPOSITORY + "constants: {a: '{b}', b: '{c}', c: x}\nsource_directories: ['/{a}', '/{b}']\n"
    assert read(text).sources == ("/{c}", "/x")
    text = REPOSITORY + "constants: {z: '{b}', b: '{a}', a: x}\nsource_directories: ['/{z}']\n"
    assert read(text).sources == ("/x",)


def test_what_stands_with_a_repository_is_resolved_twice(read: Read) -> None:
    text = "repositories: [{path: /srv/r, source_directories: ['/\\${X}', '/\\{c\\}']}]\nconstants: {c: z}\n"
    assert read(text, "create", X="x").sources == ("/x", "/z")
    text = REPOSITORY + "source_directories: ['/\\${X}', '/\\{c\\}']\nconstants: {c: z}\n"
    assert read(text, "create", X="x").sources == ("/${X}", "/{c}")


def test_an_element_of_a_list_on_the_command_line(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/a, /b]\n"
    for words in (["--source-directories[0]", "/x"], ["--source-directories[0]=/x"]):
        reading = read(text, "create", *words)
        assert (reading.sources, reading.problems) == (("/x", "/b"), ())
    assert "out of range" in read(text, "create", "--source-directories[2]", "/x").problems[0]
    assert read(text + "checks: [{name: x}]\n", "create", "--checks[0].name", "data").problems == ()
    assert read(text, "create", "--extra-borg-options.create", "--one-file-system").one_file_system


def test_of_two_anchors_of_one_name_the_later_counts(read: Read) -> None:
    text = REPOSITORY + "constants: {a: &x /one, b: &x /two}\nsource_directories: [*x]\n"
    assert (read(text).sources, read(text).problems) == (("/two",), ())


def test_the_configuration_files_of_borgmatic_1_7_follow_one_option(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(OLD + f"    source_directories: [/{name}]\n")
    reading = run(
        "-c", "a", "b", "create", "--override", "location.patterns=[R /p]", "storage.umask=63", cwd=str(tmp_path)
    )
    assert (set(reading.sources), reading.problems) == ({"/a", "/b", "/p"}, ())


def test_options_are_abbreviated_and_switches_are_told_apart(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\n"
    for words in (["create", "--prog"], ["create", "--dry"], ["--no-color", "create"], ["-nc", "create"], ["-nv2"]):
        reading = read(text, *words)
        assert (reading.sources, reading.problems) == (("/etc",), ()), words
        assert reading.dry_run == (words[-1] in ("--dry", "-nv2")), words
    assert read(text, "-nc", "x").problems
    assert read(text, "prune", "create", "--oldest", "3d").problems == ()


def test_a_path_goes_by_name_as_borg_takes_it(read: Read) -> None:
    assert read(REPOSITORY + "source_directories: [/a/link/../b, ' /c ']\n").sources == ("/a/b", "/c")


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A directory such as borgmatic makes for a run, with a file of patterns in it."""
    made = tmp_path / "borgmatic-ab3_xyz9" / "borgmatic"
    (made / "postgresql_databases").mkdir(parents=True)
    (made / "tmpk2j4").touch()
    return made.parent


def test_a_users_directory_is_not_borgmatics_runtime_directory(runtime: Path) -> None:
    def split(root: str, *lists: str, **env: str) -> tuple[str, ...]:
        return additions.split([root], lists, env).sources

    ours = f"{runtime}/./borgmatic/postgresql_databases"
    assert split(ours, f"{runtime}/./borgmatic/tmpk2j4") == ()
    assert split(ours, f"{runtime}/borgmatic/tmpk2j4") == ()  # Python's tempfile may take the dot out
    assert split(ours, XDG_RUNTIME_DIR=str(runtime.parent)) == ()
    assert split(ours, TMPDIR=str(runtime.parent)) == ()
    assert split("/run/user/0/./borgmatic/postgresql_databases", XDG_RUNTIME_DIR="/run/user/0") == ()
    for theirs in (ours, "/srv/./borgmatic/postgresql_databases", "/tmp/x/./borgmatic/postgresql_databases"):
        assert split(theirs, "/etc/patterns", XDG_RUNTIME_DIR="/run/user/0") == (theirs,)
    named = "/srv/./borgmatic/postgresql_databases"
    assert split(named, "/srv/./borgmatic/patterns") == (named,)


def test_a_pipe_is_left_to_borgmatic(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    ends = os.pipe()
    try:
        os.write(ends[1], REPOSITORY.encode())
        for name in (f"/proc/self/fd/{ends[0]}", str(tmp_path / "fifo"), str(tmp_path / "fifo.yaml")):
            if name.endswith("yaml"):
                os.symlink("fifo", name)
            reading = run("-c", name, "create")
            assert "--path" in reading.problems[0]
            assert "pipe" in reading.problems[0]
        assert os.read(ends[0], 1000) == REPOSITORY.encode()
    finally:
        os.close(ends[0])
        os.close(ends[1])
    (tmp_path / "config.yaml").write_text("<<: !include fifo\n")
    assert "--path" in run("-c", str(tmp_path / "config.yaml"), "create").problems[0]


def test_each_problem_has_its_own_remedy(read: Read) -> None:
    problems = run("-c", "/no/such.yaml", "create").problems
    assert problems == ("borgmatic's configuration '/no/such.yaml' does not exist; correct the name",)
    assert _way_out(problems) == ""
    problems = read(REPOSITORY + "source_directories: [/etc]\nlvm:\n").problems
    assert "remove the section" in problems[0]
    assert _way_out(problems) == ""
    assert "--path" in _way_out(run("-c", "/dev/null", "create").problems)


BROKEN = {
    "bomb": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "source_directories: *i\n",
    "bomb of mappings": "a: &a {x: 1}\n"
    + "".join(
        f"{new}: &{new} {{{','.join(f'k{n}: *{old}' for n in range(10))}}}\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "bomb of merges": "a: &a {x: [1, 2]}\n"
    + "".join(
        f"{new}: &{new} {{<<: [{','.join([f'*{old}'] * 9)}]}}\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "bomb of constants": "constants: {"
    + ", ".join(f"c{n:02}: '{f'{{c{n - 1:02}}}' * 9 if n else 'x'}'" for n in range(30))
    + "}\nsource_directories: ['{c29}']\n",
    "deep": "[" * 5000,
    "deep mappings": "{a: " * 5000,
    "cycle": "a: &a [*a]\n",
    "cyclic merge": "a: &a {<<: *a}\n",
    "nul": 'source_directories: ["/a\\0b"]\n',
    "surrogate": 'source_directories: ["/\\ud800"]\n',
    "beyond Unicode": 'a: "\\U00110000"\n',
    "number": f"a: {'9' * 5000}\n",
    "octal": "a: 0o9\nb: 08\nc: 0x_\nd: 0b\n",
    "date": "a: 2020-99-99\n",
    "float": "a: ._\n",
    "keys": "? [a]\n: b\n? {a: b}\n: c\n1: x\nnull: y\n",
    "tags": "a: !!binary '!'\nb: !!python/object:os.system x\n",
    "set": "source_directories: !!set {/a, /b}\n",
    "directive": "%YAML 1.1\n---\nsource_directories: [yes]\n",
    "quote": "extra_borg_options: {create: '\"'}\nsource_directories: [/a]\n",
    "glob": 'source_directories: ["/a*\\0"]\n',
    "separator": "source_directories: ['/a\u2028/b', /c]\nx: 'a\x85b'\n",
    "scalar": "word\n",
    "control": "a: \x01\n",
    "include": "a: !include {b: c}\n",
    "include of itself": "a: !include [config.yaml, config.yaml]\n",
    "user": 'source_directories: ["~\\0/x"]\n',
}
VALUES = [
    "5",
    "word",
    "[]",
    "[5]",
    "[[a]]",
    "[null]",
    "{}",
    "{a: 5}",
    "null",
    "true",
    "2020-01-01",
    "[{}]",
    "[{path: 5}]",
    ".inf",
]
KEYS = """source_directories patterns patterns_from working_directory one_file_system repositories constants bootstrap
    extra_borg_options skip_actions default_actions location storage hooks user_runtime_directory local_path log_file
    sqlite_databases borg_cache_directory encryption_passcommand umask read_special borgmatic_source_directory lvm
    commands store_config_files""".split()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_problem(read: Read, name: str) -> None:
    problems = read(REPOSITORY + BROKEN[name]).problems
    assert problems
    assert "multiply" in problems[0] or "bomb" not in name


@pytest.mark.parametrize("key", KEYS)
def test_a_wrong_type_is_never_a_traceback(read: Read, key: str) -> None:
    for value in VALUES:
        others = REPOSITORY if key != "repositories" else ""
        others += "source_directories: [/etc]\n" if key != "source_directories" else ""
        for text in (f"{key}: {value}\n{others}", f"location: {{{key}: {value}}}\n{others}"):
            read(text)
            read(text, "create", "--source-directories[0]", "/x", "--override", f"{key}.a={value}", "--override", "a=[")


def test_values_of_options_may_be_anything(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\n"
    for words in (
        ["--override", "x"],
        ["--override", "=[*a]"],
        ["--source-directories", "["],
        ["--patterns", "{a: *b}"],
    ):
        assert read(text, "create", *words).problems, words
    assert read(text, "create", "--source-directories[99999999999999999999]", "x").problems
    assert read(text, "create", "--repositories[0].path[0].x", "x").problems


@pytest.mark.parametrize("key", ["5", "true", "null", "1.5", "2020-01-01", "!!binary eA==", "[a]", "{a: b}"])
def test_an_option_whose_name_is_no_text_is_a_problem(read: Read, key: str) -> None:
    """The fuzzer found that: 21 of 200,000 files. borgmatic itself refuses each of them."""
    for text in (f"? {key}\n: x\n", f"location:\n    ? {key}\n    : x\n"):
        assert read(f"source_directories: [/etc]\n{REPOSITORY}{text}").problems
    read(f"source_directories: [/etc]\n{REPOSITORY}bootstrap:\n    ? {key}\n    : x\n")
    read(f"source_directories: [/etc]\n{REPOSITORY}constants:\n    ? {key}\n    : x\n")
