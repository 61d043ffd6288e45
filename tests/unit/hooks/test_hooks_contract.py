"""What every backup-command plugin promises, whatever its program."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml  # noqa: F401  (imported here, so that no plugin is the first to write its byte code)

from borg_lvm.config.schema import Settings
from borg_lvm.plugins.backup_command import Invocation, Reading

CWD = "/work/there"


@dataclass(frozen=True)
class Sample:
    """A program, how it is told to read some paths, and a command line of it that reads none."""

    program: str
    command: Callable[[Path, Sequence[str]], list[str]]
    idle: Sequence[str]


def borgmatic_command(directory: Path, sources: Sequence[str]) -> list[str]:
    """A borgmatic command whose configuration names the sources."""
    file = directory / "config.yaml"
    file.write_text(f"source_directories: {json.dumps(sources)}\nrepositories: [{{path: /srv/repo}}]\n")
    return ["borgmatic", "--config", str(file), "create"]


SAMPLES = {
    "borg": Sample(
        "borg",
        lambda _, sources: ["borg", "create", "--stats", "/srv/repo::a", *sources],
        ["borg", "list", "/repo"],
    ),
    "restic": Sample(
        "restic", lambda _, sources: ["restic", "-r", "/srv/repo", "backup", *sources], ["restic", "snapshots"]
    ),
    "borgmatic": Sample("borgmatic", borgmatic_command, ["borgmatic", "list"]),
    "tar": Sample("tar", lambda _, sources: ["tar", "-cf", "/srv/a.tar", *sources], ["tar", "-tf", "/srv/a.tar"]),
    "rsync": Sample("rsync", lambda _, sources: ["rsync", "-a", *sources, "/srv/copy/"], ["rsync", "--daemon"]),
}
EACH = pytest.mark.parametrize("name", sorted(SAMPLES))


def read(name: str, argv: Sequence[str], **env: str) -> Reading | None:
    module = importlib.import_module(f"borg_lvm_hooks.commands.{name}.plugin")
    invocation = Invocation(tuple(argv), {"HOME": "/root/home", **env}, CWD)
    answer: Reading | None = module.borg_lvm_read_command(invocation)
    return answer


def must_read(name: str, argv: Sequence[str], **env: str) -> Reading:
    reading = read(name, argv, **env)
    assert reading is not None
    return reading


FORBIDDEN = ("subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system", "socket.connect")
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_heard: list[str] = []
_listening = [False]


def _listen(event: str, args: tuple[object, ...]) -> None:
    if not _listening[0]:
        return
    if event in (*FORBIDDEN, *WRITES):
        _heard.append(f"{event} {args!r}")
    elif event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _heard.append(f"writes {args[0]!r}")


sys.addaudithook(_listen)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what the block does to the world: processes, connections, files written."""
    _heard.clear()
    _listening[0] = True
    try:
        yield _heard
    finally:
        _listening[0] = False


@EACH
def test_another_program_is_not_mine(name: str) -> None:
    for argv in (["cp", "-a", "/etc", "/srv"], ["/usr/bin/python3", "-m", name], [f"{name}-not", "create", "/etc"]):
        assert read(name, argv) is None
    assert read(name, ["duplicity", "/etc", "file:///srv"]) is None


@EACH
def test_the_program_is_known_by_its_full_path(name: str, tmp_path: Path) -> None:
    program, *rest = SAMPLES[name].command(tmp_path, ["/etc"])
    assert must_read(name, [f"/usr/local/bin/{program}", *rest]).sources == ("/etc",)


@EACH
def test_sources_keep_their_order_and_become_absolute(name: str, tmp_path: Path) -> None:
    reading = must_read(name, SAMPLES[name].command(tmp_path, ["/var/b", "relative/c", "/etc"]))
    assert reading.sources == ("/var/b", f"{CWD}/relative/c", "/etc")
    assert reading.problems == ()


@EACH
def test_spaces_and_odd_characters_survive(name: str, tmp_path: Path) -> None:
    odd = "/srv/a b/ü\u2028/x;y$z"
    assert must_read(name, SAMPLES[name].command(tmp_path, [odd])).sources == (odd,)


@EACH
def test_names_that_are_not_utf8_survive(name: str, tmp_path: Path) -> None:
    if name == "borgmatic":
        pytest.skip("YAML is text: its strings are UTF-8")
    raw = os.fsdecode(b"/srv/\xff\xfe/caf\xe9")
    assert must_read(name, SAMPLES[name].command(tmp_path, [raw])).sources == (raw,)


@EACH
def test_nothing_is_started_or_written(name: str, tmp_path: Path) -> None:
    argv = SAMPLES[name].command(tmp_path, ["/etc", "/var"])
    importlib.import_module(f"borg_lvm_hooks.commands.{name}.plugin")
    with listening() as heard:
        must_read(name, argv)
        must_read(name, SAMPLES[name].idle)
    assert heard == []


@EACH
def test_an_unknown_option_is_a_problem(name: str, tmp_path: Path) -> None:
    argv = SAMPLES[name].command(tmp_path, ["/etc"])
    for option in ("--frobnicate", "--frobnicate=9"):
        problems = must_read(name, [*argv, option]).problems
        assert any("--frobnicate" in problem and "--path" in problem for problem in problems), problems


@EACH
def test_an_action_without_sources_says_so(name: str) -> None:
    reading = must_read(name, SAMPLES[name].idle)
    assert reading.sources == ()
    assert any("reads no source paths" in problem for problem in reading.problems)
    assert any("without borg-lvm" in problem for problem in reading.problems)


@EACH
def test_the_bare_program_is_no_backup(name: str) -> None:
    reading = must_read(name, [SAMPLES[name].program], XDG_CONFIG_HOME="/nonexistent")
    assert reading.sources == ()
    assert reading.problems


@EACH
def test_live_paths_are_absolute_and_explained(name: str, tmp_path: Path) -> None:
    reading = must_read(name, SAMPLES[name].command(tmp_path, ["/etc"]))
    assert reading.live
    for item in reading.live:
        assert os.path.isabs(item.path)
        assert item.reason


@EACH
def test_live_paths_are_told_even_with_a_problem(name: str, tmp_path: Path) -> None:
    argv = SAMPLES[name].command(tmp_path, ["/etc"])
    known = {item.path for item in must_read(name, argv).live}
    assert {item.path for item in must_read(name, [*argv, "--frobnicate"]).live} == known


@EACH
def test_no_live_path_holds_a_source(name: str, tmp_path: Path) -> None:
    """A directory outside every cover is live anyway; naming it would make the core refuse the run."""
    for source in ("/srv/data", "/tmp/data", "/root/home/.ssh", "/root/home/.cache/borg", "/root/home/.local"):
        reading = must_read(name, SAMPLES[name].command(tmp_path, [source]))
        assert [item.path for item in reading.live if f"{source}/".startswith(f"{item.path}/")] == []


@EACH
def test_problems_and_notes_are_sentences(name: str, tmp_path: Path) -> None:
    reading = must_read(name, [*SAMPLES[name].command(tmp_path, ["/etc"]), "--frobnicate"])
    for sentence in (*reading.problems, *reading.notes):
        assert " " in sentence
        assert "\n" not in sentence
        assert not sentence.endswith(".")


@EACH
def test_the_module_says_in_one_line_what_it_does(name: str) -> None:
    module = importlib.import_module(f"borg_lvm_hooks.commands.{name}.plugin")
    first = (module.__doc__ or "").splitlines()[0]
    assert first.startswith("Reads ")
    assert first.endswith(".")
    assert len(first) <= 110


@EACH
def test_importing_the_plugin_brings_no_yaml(name: str) -> None:
    source = Path(importlib.import_module(f"borg_lvm_hooks.commands.{name}.plugin").__file__ or "").read_text()
    assert "\nimport yaml" not in source


def test_each_plugin_for_a_backup_program_is_judged_loaded_and_documented() -> None:
    root = Path(__file__).parents[3]
    points = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]["borg_lvm"]
    commands = {name for name, module in points.items() if ".commands." in module}
    assert commands == set(SAMPLES) == set(Settings().hooks)
    table = (root / "docs" / "backup-programs.md").read_text()
    assert [name for name in commands if not re.search(rf"(?m)^\| `{name}\b", table)] == []


def test_what_is_installed_is_what_the_checkout_has() -> None:
    points = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["entry-points"]
    installed = {point.name: point.value for point in entry_points(group="borg_lvm")}
    assert installed == points["borg_lvm"], "run: .venv/bin/python -m pip install --no-deps -e ."
