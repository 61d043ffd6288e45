"""Which archives a borgmatic has made, in each repository of its configuration: told by what borg has written down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.plugins.backup_command import NOTHING, Invocation, Marked, OnTainted, Span, Tainted
from borg_lvm_hooks.commands.borgmatic import plugin as borgmatic
from borg_lvm_hooks.commands.borgmatic.taint import CONSENT, DEFAULT_FORMAT, ENVIRONMENT
from tests.unit.hooks.commands.test_taint import BEGIN, END, HOST, archive, in_utc

SOURCES = "source_directories: [/srv]\n"


def saved(name: str, location: str = "/one", form: str = DEFAULT_FORMAT, start: float = BEGIN + 5) -> dict[str, object]:
    """An archive as borgmatic has borg make it."""
    words = ("--patterns-from", "/run/user/0/borgmatic-x/borgmatic/tmpy", "--log-json", f"{location}::{form}")
    return archive(name, start, ("borg", "create", *words))


class Repositories:
    """Answers as borg does for several repositories, and remembers what it was asked, and with which environment."""

    def __init__(self, **held: Sequence[dict[str, object]]) -> None:
        self.held = {f"/{name}": archives for name, archives in held.items()}
        self.changes: list[list[str]] = []
        self.calls: list[tuple[list[str], Mapping[str, str]]] = []

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
        self.calls.append((list(argv), env))
        location, _, name = argv[-1].partition("::")
        if "list" in argv or "info" in argv:
            if location not in self.held:
                raise ProgramError(argv, "failed with status 2", "no such repository")
            return json.dumps({"archives": [one for one in self.held[location] if name in ("", one["name"])]})
        self.changes.append(list(argv))
        return ""

    def told(
        self, tmp_path: Path, *texts: str, words: Sequence[str] = ("create",), action: OnTainted = "rename"
    ) -> str:
        answer = self.marked(tmp_path, *texts, words=words, action=action)
        assert not answer.sound
        return "\n".join(answer.lines)

    def marked(
        self,
        tmp_path: Path,
        *texts: str,
        words: Sequence[str] = ("create",),
        action: OnTainted = "rename",
        sound_until: float = 0.0,
    ) -> Marked:
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.yaml").write_text(SOURCES + text)
        invocation = Invocation(("borgmatic", "-c", str(tmp_path), *words), {"HOME": "/root"}, "/work")
        tainted = Tainted(Span(BEGIN, END), action, self.run, sound_until)
        answer: Marked | None = borgmatic.borg_lvm_taint(invocation, tainted)
        assert answer is not None
        return answer


def test_each_repository_has_its_archive_marked(tmp_path: Path) -> None:
    text = (
        "repositories: [{path: /one}, {path: /two, encryption_passcommand: cat /key, archive_name_format: 'x-{now}'}]\n"
        "encryption_passphrase: secret\nlocal_path: nice borg1\nremote_path: far\nssh_command: ssh -p 9\n"
        "borg_cache_directory: /c\nlock_wait: 5\nextra_borg_options: {create: --umask 7 --list}\n"
        "unknown_unencrypted_repo_access_is_ok: true\n"
    )
    asked = Repositories(one=[saved("h-0", start=BEGIN - 60), saved("h-1")], two=[saved("x-1", "/two", "x-{now}")])
    told = asked.told(tmp_path, text)
    assert told.splitlines() == [
        "/one: borg's archive h-1 is now called borg-lvm-tainted-h-1: delete it",
        "/two: borg's archive x-1 is now called borg-lvm-tainted-x-1: delete it",
    ]
    common = ["--remote-path=far", "--lock-wait=5", "--umask=7"]
    assert asked.changes == [
        ["nice", "borg1", "rename", *common, "/one::h-1", "borg-lvm-tainted-h-1"],
        ["nice", "borg1", "rename", *common, "/two::x-1", "borg-lvm-tainted-x-1"],
    ]
    assert asked.calls[0][1] == {
        "BORG_CACHE_DIR": "/c",
        "BORG_RSH": "ssh -p 9",
        "BORG_PASSPHRASE": "secret",
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "YES",
        "TZ": "UTC",
    }
    assert asked.calls[-1][1]["BORG_PASSCOMMAND"] == "cat /key"
    assert "secret" not in str([argv for argv, _ in asked.calls])


@pytest.mark.parametrize(
    "other",
    [
        saved("a", start=BEGIN - 60),
        saved("a", form="other-{now}"),
        saved("a", location="/elsewhere"),
        archive("a", host=f"not-{HOST}", command=("borg", "create", f"/one::{DEFAULT_FORMAT}")),
        archive("a", command=("borg", "create", "--unheard-of", f"/one::{DEFAULT_FORMAT}")),
        archive("a", command=("borg", "rename", f"/one::{DEFAULT_FORMAT}", "b")),
    ],
)
def test_another_archive_is_not_touched(tmp_path: Path, other: dict[str, object]) -> None:
    actions: tuple[OnTainted, ...] = ("rename", "delete", "keep")
    for action in actions:
        asked = Repositories(one=[other])
        told = asked.told(tmp_path, "repositories: [{path: /one}]\n", action=action)
        assert told == "/one: borg has saved no archive in this run"
        assert asked.changes == []


def test_of_more_than_the_configuration_makes_none_is_touched(tmp_path: Path) -> None:
    text = "repositories: [{path: /one}]\n"
    asked = Repositories(one=[saved("a"), saved("b")])
    assert "which of the archives a, b this run has made: none was touched" in asked.told(
        tmp_path, text, action="delete"
    )
    assert asked.changes == []
    # Two files that say the same make two archives.
    assert len(asked.told(tmp_path, text, text, action="delete").splitlines()) == 2
    assert [argv[-1] for argv in asked.changes] == ["/one::a", "/one::b"]


def test_one_repository_that_fails_does_not_keep_the_others_from_being_marked(tmp_path: Path) -> None:
    text = "repositories: [{path: /gone}, {path: /one, label: mine}, {path: rel}]\nworking_directory: /w\n"
    asked = Repositories(one=[saved("a")])
    told = asked.told(tmp_path, text)
    assert "/gone: what was saved could not be marked: borg failed with status 2" in told
    assert "/one: borg's archive a is now called" in told
    assert "rel: its path is relative" in told
    assert asked.told(tmp_path, text, words=("create", "--repository", "min*")).startswith("/one: ")


def test_the_archive_of_dumps_is_known_by_its_suffix(tmp_path: Path) -> None:
    asked = Repositories(one=[saved("h-1", form=f"{DEFAULT_FORMAT}.checkpoint")])
    assert "h-1 is now called" in asked.told(tmp_path, "repositories: [{path: /one}]\n")


@pytest.mark.parametrize(
    "written",
    ["file:///one", "host:one", "u@host:/one", "u@host:~/one", "ssh://h/./one", "/one", "one", "rclone:r:one"],
)
def test_a_repository_is_spelled_as_borgmatic_does(tmp_path: Path, written: str) -> None:
    config = {"repositories": [{"path": written}]}
    import_module("borgmatic.config.normalize").normalize("x.yaml", config)
    spelled = config["repositories"][0]["path"]
    asked = Repositories()
    asked.held = {spelled: [saved("a", spelled)]}
    assert asked.told(tmp_path, f"repositories: ['{written}']\n").startswith(f"{spelled}: borg's archive a is now")


def test_what_borgmatic_hands_over_is_what_we_do() -> None:
    real = import_module("borgmatic.borg.environment")
    ours = {name: variable for name, variable in ENVIRONMENT.items() if not name.startswith("encryption_")}
    left_out = {"archive_username", "borg_files_cache_ttl", "remote_path"}  # of no concern when nothing is saved
    theirs = real.OPTION_TO_ENVIRONMENT_VARIABLE
    assert ours == {name: theirs[name] for name in theirs if name not in left_out}
    assert real.DEFAULT_BOOL_OPTION_TO_ENVIRONMENT_VARIABLE.items() >= CONSENT.items()
    assert import_module("borgmatic.borg.flags").DEFAULT_ARCHIVE_NAME_FORMAT_WITHOUT_SERIES == DEFAULT_FORMAT


def test_what_cannot_be_told_is_not_guessed(tmp_path: Path) -> None:
    text = "repositories: [{path: /one}]\n"
    asked = Repositories(one=[saved("a")])
    assert "credentials" in asked.told(tmp_path, text + "encryption_passphrase: '{credential systemd x}'\n")
    for words in (("prune",), ("create", "--unheard-of"), ("borg", "create"), ("create", "--override", "x")):
        assert "cannot tell which archives" in asked.told(tmp_path, text, words=words)
    assert asked.told(tmp_path, text, words=("create", "--dry-run")) == ""
    assert asked.changes == []
    assert (
        borgmatic.borg_lvm_taint(Invocation(("borg",), {}, "/"), Tainted(Span(BEGIN, END), "rename", asked.run)) is None
    )


def test_it_is_sound_if_each_repository_has_an_archive_that_was_finished_in_time(tmp_path: Path) -> None:
    text = "repositories: [{path: /one}, {path: /two}]\n"
    early, late = {"end": in_utc(BEGIN + 50)}, {"end": in_utc(BEGIN + 90)}
    one, two = {**saved("a"), **early}, {**saved("b", "/two"), **early}
    all_sound = Repositories(one=[one], two=[two])
    answer = all_sound.marked(tmp_path, text, sound_until=BEGIN + 60)
    assert answer.sound
    assert answer.lines == (
        "/one: borg's archive a was finished before that: it is sound",
        "/two: borg's archive b was finished before that: it is sound",
    )
    assert all_sound.changes == []
    for other in ([{**two, **late}], []):
        some = Repositories(one=[one], two=other)
        assert not some.marked(tmp_path, text, sound_until=BEGIN + 60).sound
        assert [call[1] for call in some.changes] == ["rename"] * len(other)
