"""What the borgmatic plugin reads out of command lines and configurations, and that it agrees with the real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_lvm.command import Invocation, Reading

if TYPE_CHECKING:
    from hooks import borgmatic, options
else:
    from borg_lvm_hooks import borgmatic, options

Read = Callable[..., Reading]
REPOSITORY = "repositories: [{path: /srv/r}]\n"


def run(*args: str, cwd: str = "/work", **env: str) -> Reading:
    argv = ("borgmatic", *args)
    reading = borgmatic.borg_lvm_read_command(Invocation(argv, {"HOME": "/root/home", **env}, cwd))
    assert reading is not None
    return reading


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read `borgmatic -c FILE create …` with this text as its configuration."""

    def one(text: str, *args: str, **env: str) -> Reading:
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return run("-c", str(file), *(args or ("create",)), cwd=str(tmp_path), **env)

    return one


def live(reading: Reading) -> dict[str, bool]:
    return {item.path: item.make for item in reading.live}


def test_source_directories(read: Read, tmp_path: Path) -> None:
    (tmp_path / "log.1").touch()
    (tmp_path / "log.2").touch()
    reading = read(REPOSITORY + "source_directories: [/etc, 'log.*', ~/x, ~root/y, 'none*', /a/./b]\n")
    assert reading.sources == (
        "/etc",
        f"{tmp_path}/log.1",
        f"{tmp_path}/log.2",
        "/root/home/x",
        "/root/y",
        f"{tmp_path}/none*",
        "/a/./b",
    )
    assert reading.problems == ()


def test_a_working_directory(read: Read, tmp_path: Path) -> None:
    (tmp_path / "w" / "sub").mkdir(parents=True)
    reading = read(
        f"working_directory: {tmp_path}/w\nsource_directories: ['s*', x, /etc]\nrepositories: [{{path: r}}]\n"
    )
    assert reading.sources == (f"{tmp_path}/w/sub", f"{tmp_path}/w/x", "/etc")
    assert f"{tmp_path}/w/r" in live(reading)
    assert read(REPOSITORY + "working_directory: w\nsource_directories: ['s*']\n").sources == (f"{tmp_path}/w/sub",)


def test_roots_in_patterns(read: Read, tmp_path: Path) -> None:
    (tmp_path / "patterns").write_text("# x\nR /file\n- *.o\n")
    reading = read(REPOSITORY + "patterns: ['R /line', '- *.tmp', '# R /no']\npatterns_from: [patterns]\n")
    assert reading.sources == ("/line", "/file")
    assert read(REPOSITORY + "patterns_from: [/no/such]\n").problems


def test_default_actions_create(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\n"
    assert read(text, "--verbosity", "1").sources == ("/etc",)
    assert read(text, "prune", "create", "--stats").sources == ("/etc",)
    assert read(text, "-C").sources == ("/etc",)
    assert "reads no source paths" in read(text, "prune", "check").problems[0]
    assert "default actions" in read(text + "default_actions: false\n", "-v1").problems[0]
    assert read(text + "default_actions: false\n", "create").problems == ()
    assert read(text + "skip_actions: [create]\n").sources == ()


def test_what_is_not_followed(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\n"
    for args in (
        ["borg", "create", "/x"],
        ["create", "stray"],
        ["create", "--commands[0].run", "x"],
        ["create", "--one"],
    ):
        assert read(text, *args).problems, args


def test_several_files_and_folders(tmp_path: Path) -> None:
    for name, source in (("b.yaml", "/b"), ("a.yml", "/a"), ("c.txt", "/c")):
        (tmp_path / name).write_text(REPOSITORY + f"source_directories: [{source}]\n")
    assert run("-c", str(tmp_path), "create").sources == ("/a", "/b")
    assert run("-c", f"{tmp_path}/b.yaml", "--config", f"{tmp_path}/a.yml").sources == ("/b", "/a")
    assert "cannot be read" in run("-c", "/no/such.yaml", "create").problems[0]


def test_the_default_places(tmp_path: Path) -> None:
    (tmp_path / "borgmatic").mkdir()
    (tmp_path / "borgmatic" / "config.yaml").write_text(REPOSITORY + "source_directories: [/etc]\n")
    assert run("create", XDG_CONFIG_HOME=str(tmp_path)).sources == ("/etc",)
    assert "no configuration file" in run("create", XDG_CONFIG_HOME="/none").problems[0]


def test_constants_and_the_environment(read: Read) -> None:
    text = (
        REPOSITORY + "constants: {user: joe}\nsource_directories: ['/h/{user}', '/{other}', '${TOP:-/d}/x', '\\${A}']\n"
    )
    assert read(text).sources[:3] == ("/h/joe", "/{other}", "/d/x")
    assert read(text, "create", TOP="/t").sources[2] == "/t/x"
    assert read(text, "create", "--no-environment-interpolation", TOP="/t").sources[2].endswith("${TOP:-/d}/x")
    assert "NOT_SET" in read(REPOSITORY + "source_directories: ['${NOT_SET}']\n").problems[0]


def test_includes_are_merged_deeply(read: Read, tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text(
        "source_directories: [/common, /unwanted]\nborg_cache_directory: /c\nextra_borg_options: {create: -x}\n"
    )
    reading = read(
        REPOSITORY + "<<: !include common.yaml\nsource_directories: [/own, !omit /unwanted]\n"
        "extra_borg_options: {prune: '--list'}\n"
    )
    assert reading.sources == ("/common", "/own")
    assert reading.one_file_system
    assert "/c" in live(reading)
    reading = read(REPOSITORY + "<<: !include common.yaml\nsource_directories: !retain [/own]\n")
    assert reading.sources == ("/own",)
    (tmp_path / "list.yaml").write_text("[/a, /b]")
    assert read(REPOSITORY + "source_directories: !include list.yaml\n").sources == ("/a", "/b")
    assert "not found" in read(REPOSITORY + "<<: !include gone.yaml\n").problems[0]
    (tmp_path / "loop.yaml").write_text("<<: !include loop.yaml\n")
    assert "itself" in read("<<: !include loop.yaml\n").problems[0]


def test_broken_configurations_are_problems(read: Read) -> None:
    for text in ("", "- a\n", "a: [\n", "source_directories: /etc\n" + REPOSITORY, "a: !unknown x\n", "a: !omit x\n"):
        assert read(text).problems, text


def test_old_sections(read: Read) -> None:
    reading = read(
        "location: {source_directories: [/etc], repositories: [/srv/r, 'h:x'], one_file_system: true}\n"
        "storage: {borg_base_directory: /base}\n"
    )
    assert reading.sources == ("/etc",)
    assert reading.one_file_system
    assert {"/srv/r", "/base/.cache/borg", "/root/.ssh"} <= set(live(reading))


def test_repositories_may_have_their_own_options(read: Read) -> None:
    reading = read(
        "source_directories: [/etc]\none_file_system: true\nrepositories:\n- path: /a\n"
        "- {path: 'ssh://h/b', source_directories: [/home], one_file_system: false, borg_cache_directory: /c2}\n"
    )
    assert reading.sources == ("/etc", "/home")
    assert not reading.one_file_system
    assert {"/a", "/root/.ssh", "/c2", "/root/home/.cache/borg"} <= set(live(reading))


def test_of_which_moment_a_dump_is(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/srv]\nsqlite_databases: [{name: a, path: /srv/a}, {name: b, path: %s}]\n"
    assert "sqlite_databases are dumped from the frozen files" in " ".join(read(text % "/srv/b").notes)
    assert "sqlite_databases are dumped live" in " ".join(read(text % "/opt/b").notes)


def test_what_gnupg_needs_is_live_where_a_command_tells_the_pass_phrase(read: Read, tmp_path: Path) -> None:
    (tmp_path / ".gnupg").mkdir()
    text = REPOSITORY + "source_directories: [/etc]\n"
    told = text + "encryption_passcommand: pass show borg\n"
    assert f"{tmp_path}/.gnupg" in live(read(told, HOME=str(tmp_path)))
    assert f"{tmp_path}/.gnupg" in live(read(text, HOME=str(tmp_path), BORG_PASSCOMMAND="pass show borg"))
    assert f"{tmp_path}/.gnupg" not in live(read(text, HOME=str(tmp_path)))


def test_overrides_and_options_for_settings(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\nbtrfs:\n"
    assert "btrfs" in read(text).problems[0]
    assert read(text, "create", "--no-btrfs").problems == ()
    assert read(text, "create", "--no-btrfs", "--source-directories", "[/a, /b]").sources == ("/a", "/b")
    assert read(text, "create", "--no-btrfs", "--override", "source_directories=[/q]").sources == ("/q",)
    assert read(text, "create", "--no-btrfs", "--override", "location.source_directories=[/q]").sources == ("/q",)
    assert read(text, "create", "--no-btrfs", "--override", "keep_daily=1").problems == ()
    assert read(text, "create", "--no-btrfs", "--override", "retention.keep_daily=1").problems == ()
    assert read(text, "create", "--no-btrfs", "--override", "bootstrap.store_config_files=false").problems
    assert read(text, "create", "--no-btrfs", "--one-file-system").one_file_system
    assert "/rt" in live(read(text, "create", "--user-runtime-directory=/rt"))


def test_what_borgmatic_and_borg_write(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\n"
    folders = live(read(text))
    assert folders["/root/home/.local/state/borgmatic"]
    assert folders["/tmp"]
    assert folders["/srv/r"] is False
    env = {"XDG_RUNTIME_DIR": "/run/user/0", "XDG_STATE_HOME": "/s"}
    assert {"/run/user/0", "/s/borgmatic"} <= set(live(read(text, "create", **env)))
    env = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "STATE_DIRECTORY": "/var/lib/x"}
    assert {"/run/a", "/var/lib/x/borgmatic"} <= set(live(read(text, "create", **env)))
    more = "borg_security_directory: /sec\nborg_keys_directory: /k\nlog_file: /var/log/b/x\ntemporary_directory: /t\n"
    assert {"/sec", "/k", "/var/log/b", "/t"} <= set(live(read(text + more)))


def test_a_repository_with_a_placeholder(read: Read) -> None:
    assert "/srv" in live(read("repositories: [{path: '/srv/{hostname}.borg'}]\nsource_directories: [/etc]\n"))


def test_other_snapshots_are_refused(read: Read) -> None:
    for name in ("lvm", "zfs", "btrfs"):
        assert f"{name}:" in read(REPOSITORY + f"source_directories: [/etc]\n{name}: {{}}\n").problems[0]
    text = REPOSITORY + "source_directories: [/etc]\nlocal_path: /usr/bin/borg-lvm%s\n"
    assert "already calls borg-lvm" in read(text % "").problems[0]
    assert read(text % "-borg").problems == ()


def test_dumps_commands_and_stored_files_are_told(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\npostgresql_databases: [{name: all}]\nbefore_backup: [x]\n"
    notes = " ".join(read(text).notes)
    for word in ("postgresql_databases", "commands", "stores its configuration"):
        assert word in notes
    quiet = REPOSITORY + "source_directories: [/etc]\nbootstrap: {store_config_files: false}\n"
    assert read(quiet).notes == ()


def test_extra_borg_options(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\nextra_borg_options: {create: '%s'}\n"
    assert read(text % "--one-file-system --comment x").one_file_system
    for extra in ("--patterns-from x", "--frobnicate", "/more", "--paths-from-stdin"):
        assert read(text % extra).problems, extra


TELLING = (
    *(
        "--help",
        "--version",
        "--config",
        "--override",
        "completion",
        "director",
        "--repositor",
        "--patterns",
        "--local",
    ),
    *("--one-file", "--no-one-file", "--skip", "--default", "--no-default", "--borg", "--temp", "--user", "--log-file"),
    *("--no-constants", "--no-extra", "--local"),
)


def harmless() -> st.SearchStrategy[list[str]]:
    known = [option for option in borgmatic.TABLE.options if not any(word in option.name for word in TELLING)]

    def spell(option: options.Option) -> list[str]:
        return [f"{option.name}=1"] if option.takes is options.Takes.VALUE else [option.name]

    return st.sampled_from(known).map(spell)


@settings(deadline=None)
@given(st.lists(harmless()), st.lists(harmless()))
def test_options_do_not_change_the_sources(before: list[list[str]], after: list[list[str]]) -> None:
    file = Path(__file__).with_name("borgmatic-example.yaml")
    reading = run("-c", str(file), *chain(*before), "create", *chain(*after))
    assert reading.sources == ("/etc", "/home")
    assert reading.problems == ()


def interpreter() -> str:
    """The Python of the installed borgmatic: our own, or that in its first line."""
    if os.path.exists(os.path.join(os.path.dirname(sys.executable), "borgmatic")):
        return sys.executable
    found = shutil.which("borgmatic")
    if found is None:
        pytest.skip("no borgmatic installed")
    return Path(found).read_text().splitlines()[0].removeprefix("#!").strip()


OPTIONS = """
import json
from borgmatic.commands import arguments
from borgmatic.config import load, validate
schema = load.load_configuration(validate.schema_filename())
main, actions, _ = arguments.make_parsers(schema, ())
parsers = [main, *(actions.choices[name] for name in ("create", "prune", "compact", "check"))]
print(json.dumps({
    "options": [[a.option_strings, a.nargs != 0] for parser in parsers for a in parser._actions],
    "actions": sorted(actions.choices),
}))
"""


# Options that stand for whole settings with an inside, which are refused on the command line.
REFUSED = re.compile(r"--.*[.[].*|--.*-databases|--(before|after)-.*|--commands|--on-error|--constants")


@pytest.mark.process
def test_the_tables_are_those_of_the_installed_borgmatic() -> None:
    asked = subprocess.run([interpreter(), "-I", "-c", OPTIONS], capture_output=True, check=True)
    said = json.loads(asked.stdout)
    for names, takes_value in said["options"]:
        for name in names:
            if REFUSED.fullmatch(name):
                continue
            option = borgmatic.TABLE.by_name.get(name)
            assert option is not None, f"borgmatic has a new option {name}"
            assert (option.takes is options.Takes.VALUE) == takes_value, name
    unknown = {name for name in said["actions"] if not name.startswith("-")} - borgmatic.ALL_ACTIONS
    assert unknown == set()


ROOTS = """
import json, os, sys
from borgmatic.actions import pattern
from borgmatic.borg.pattern import Pattern_type
from borgmatic.commands import arguments
from borgmatic.config import collect, load, paths, validate
schema_filename = validate.schema_filename()
schema = load.load_configuration(schema_filename)
load_file = load.load_configuration
load.load_configuration = lambda name, *rest: schema if name == schema_filename else load_file(name, *rest)

def roots(args):
    parsed = arguments.parse_arguments(schema, *args)
    options = parsed["global"]
    for name in collect.collect_config_filenames(tuple(options.config_paths)):
        config, _, _ = validate.parse_configuration(
            name, schema_filename, parsed, options.overrides, options.resolve_env
        )
        for repository in config["repositories"]:
            merged = load.merge_repository_configuration(repository, config)
            working = paths.get_working_directory(merged)
            found = pattern.process_patterns(pattern.collect_patterns(merged, working), merged, working)
            yield from (one.path for one in found if one.type == Pattern_type.ROOT)

answers = []
for folder, args in json.load(sys.stdin):
    os.chdir(folder)
    try:
        answers.append(list(roots(args)))
    except ValueError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""

CONFIGURATIONS: dict[str, str] = {
    "plain": REPOSITORY + "source_directories: [/etc, 'log.*', ~/x, 'none*', /a/./b]\n",
    "patterns": REPOSITORY + "source_directories: [/etc]\npatterns: [R /p, '- *.o']\npatterns_from: [patterns]\n",
    "merge": REPOSITORY + "<<: !include common.yaml\nsource_directories: [/own, !omit /unwanted]\n",
    "merges": REPOSITORY + "<<: !include [common.yaml, other.yaml]\nsource_directories: [/own]\n",
    "retain": REPOSITORY + "<<: !include common.yaml\nsource_directories: !retain [/own]\n",
    "nested": REPOSITORY + "<<: !include nested.yaml\n",
    "list": REPOSITORY + "source_directories: !include list.yaml\n",
    "constants": REPOSITORY
    + "constants: {a: x, b: '{a}y'}\nsource_directories: ['/{a}', '/{b}', '/{c}', '/\\{a\\}']\n",
    "environment": REPOSITORY + "source_directories: ['${FOO:-/d}', '${BAR}/x', '/\\${FOO}']\n",
    "sections": "location: {source_directories: [/etc], repositories: [/srv/r]}\nstorage: {umask: 63}\n",
    "repositories": "repositories: [{path: /a}, {path: /b, source_directories: [/own]}]\nsource_directories: [/etc]\n",
    "yaml 1.2": REPOSITORY + "source_directories: [no, on, y, '1', 12:30:45, 0o7x, ~x]\n",
    "anchors": REPOSITORY + "constants: {x: &d /anchored}\nsource_directories: [*d, /etc]\n",
    "working": REPOSITORY + "working_directory: w\nsource_directories: ['s*', x]\n",
}
OTHER_ARGUMENTS: Sequence[Sequence[str]] = [
    ["--override", "source_directories=[/q]"],
    ["--override", "location.source_directories=[/q, 'log.*']"],
    ["--source-directories", "[/q]", "--working-directory", "w"],
    ["--no-environment-interpolation"],
    ["-v", "2", "--one-file-system", "--no-bootstrap"],
]


FILES = {
    "common.yaml": "source_directories: [/common, /unwanted]\nborg_cache_directory: /c\n",
    "other.yaml": "source_directories: [/other]\nborg_cache_directory: /o\nchecks: [{name: disabled}]\n",
    "nested.yaml": "<<: !include common.yaml\nsource_directories: [/nested]\n",
    "list.yaml": "[/a, /b]\n",
    "patterns": "# x\nR /file\n- *.o\n\n R /spaced\n",
    "log.1": "",
    "w/sub": "",
}


@pytest.mark.process
def test_borgmatic_finds_the_same_roots(tmp_path: Path) -> None:
    """The real borgmatic is asked once for all configurations and command lines."""
    cases = [(name, ()) for name in CONFIGURATIONS] + [("environment", tuple(more)) for more in OTHER_ARGUMENTS]
    questions = []
    for number, (name, more) in enumerate(cases):
        folder = tmp_path / str(number)
        for file, text in {**FILES, "config.yaml": CONFIGURATIONS[name]}.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        questions.append((str(folder), ["-c", "config.yaml", *more, "create"]))
    environment = {"HOME": "/root/home", "BAR": "/bar", "PATH": os.environ["PATH"]}
    command = [interpreter(), "-I", "-c", ROOTS]
    said = json.dumps(questions).encode()
    asked = subprocess.run(command, input=said, env=environment, capture_output=True, check=True)
    understood = 0
    for (cwd, args), (name, more), answer in zip(questions, cases, json.loads(asked.stdout), strict=True):
        reading = run(*args, cwd=cwd, **environment)
        if isinstance(answer, str):
            assert reading.problems, (name, more, answer)
            continue
        working = "w" if "working" in f"{name}{more}" else ""
        expected = [os.path.join(cwd, working, path) for path in answer]
        assert reading.problems == (), (name, more)
        assert list(reading.sources) == list(dict.fromkeys(expected)), (name, more)
        understood += 1
    assert understood > 15
