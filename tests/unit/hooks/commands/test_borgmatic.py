"""What the borgmatic plugin reads out of command lines and configurations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from borg_lvm.plugins.backup_command import Invocation, Reading
from borg_lvm_hooks.commands.borgmatic import plugin as borgmatic

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
        ["create", "--commands[0]run", "x"],
        ["create", "--one"],
    ):
        assert read(text, *args).problems, args


def test_several_files_and_directories(tmp_path: Path) -> None:
    for name, source in (("b.yaml", "/b"), ("a.yml", "/a"), ("c.txt", "/c")):
        (tmp_path / name).write_text(REPOSITORY + f"source_directories: [{source}]\n")
    assert run("-c", str(tmp_path), "create").sources == ("/a", "/b")
    assert run("-c", f"{tmp_path}/b.yaml", "--config", f"{tmp_path}/a.yml").sources == ("/b", "/a")
    assert "does not exist" in run("-c", "/no/such.yaml", "create").problems[0]


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


def test_a_database_of_sqlite_is_dumped_where_sqlite_can_write(read: Read, tmp_path: Path) -> None:
    text = REPOSITORY + "source_directories: [/srv]\nsqlite_databases: [{name: a, path: /srv/a}, {name: b, path: b}]\n"
    reading = read(text + f"working_directory: {tmp_path}/w\n")
    assert [one.path for one in reading.writes_beside] == ["/srv/a", f"{tmp_path}/w/b", f"{tmp_path}/b"]
    assert "sqlite_databases are dumped live" in " ".join(reading.notes)
    assert read(text.replace("sqlite", "mysql")).writes_beside == ()


def test_the_socket_of_a_database_server_is_live(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/srv]\nmariadb_databases: [{name: all, socket_path: /srv/sql/sock}]\n"
    assert "/srv/sql/sock" in live(read(text))


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
    assert read(text, "create", "--no-btrfs", "--override", "bootstrap.store_config_files=false").notes == ()
    assert read(text, "create", "--no-btrfs", "--one-file-system").one_file_system
    assert "/rt" in live(read(text, "create", "--user-runtime-directory=/rt"))


def test_what_borgmatic_and_borg_write(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\n"
    directories = live(read(text))
    assert directories["/root/home/.local/state/borgmatic"]
    assert directories["/tmp"]
    assert directories["/srv/r"] is False
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


def test_an_application_that_a_hook_stops_was_running_at_the_instant(read: Read) -> None:
    text = REPOSITORY + "source_directories: [/etc]\n"
    for early in ("before_backup: [x]", "before_everything: [x]", "commands: [{before: action, run: [x]}]"):
        assert "still running when its files were frozen" in " ".join(read(text + early).notes), early
    for late in ("after_backup: [x]", "on_error: [x]", "commands: [{after: action, run: [x]}]", "before_backup: []"):
        assert "still running" not in " ".join(read(text + late).notes), late


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


ONE = "source_directories: [/srv]\nrepositories: [{path: /one}]\n"


@pytest.mark.parametrize(
    ("text", "actions", "once"),
    [
        (ONE, ("create", "compact", "check"), True),
        (ONE, ("create", "prune", "compact"), False),  # prune would keep a bad archive and remove a good one
        (ONE, ("--list",), False),  # prune is one of the actions by default
        (ONE.replace("]", ", {path: /two}]").replace("/srv, {path: /two}]", "/srv]", 1), ("create", "check"), False),
        (ONE + "commands: [{after: action, run: [rsync -a /srv /b]}]\n", ("create", "check"), False),
        (ONE + "after_backup: [rsync -a /srv /b]\n", ("create", "check"), False),
    ],
)
def test_it_reads_once_if_nothing_of_it_may_read_again(
    read: Read, text: str, actions: tuple[str, ...], once: bool
) -> None:
    reading = read(text, *actions)
    assert reading.problems == ()
    assert reading.reads_once == once
