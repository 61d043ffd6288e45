"""Which archive a run has made: told by what borg and restic themselves have written down, never guessed."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from borg_lvm.plugins.backup_command import NOTHING, Invocation, Marked, OnTainted, Span, Tainted
from borg_lvm_hooks.commands.borg import plugin as borg
from borg_lvm_hooks.commands.restic import plugin as restic

BEGIN = 1_790_000_000.0
END = BEGIN + 600
RAN = Span(BEGIN, END)
HOST = socket.gethostname()
BORG = ("borg", "--lock-wait", "9", "create", "--stats", "/repo::{hostname}-1", "/srv")
RESTIC = ("restic", "-r", "/repo", "backup", "--host", "there", "/srv/", "/etc")


def in_utc(moment: float) -> str:
    """A time as borg 1 writes it where TZ is UTC."""
    return datetime.fromtimestamp(moment, UTC).replace(tzinfo=None).isoformat()


def archive(
    name: str, start: float = BEGIN + 5, command: Sequence[str] = BORG, host: str = HOST, end: float = END - 5
) -> dict[str, object]:
    path = ["/usr/bin/borg", *command[1:]]
    return {"name": name, "start": in_utc(start), "end": in_utc(end), "hostname": host, "command_line": path}


def in_go(moment: float) -> str:
    """A time as restic writes it."""
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", ".123456789Z")


def snapshot(name: str, start: float = BEGIN + 5, host: str = "there", *paths: str) -> dict[str, object]:
    known = {"id": name * 4, "short_id": name, "time": in_go(start), "hostname": host}
    return {**known, "paths": paths or ("/etc", "/srv")}


class Repository:
    """Answers as the programs do, with what it is given, and remembers what it was asked."""

    def __init__(self, *held: dict[str, object]) -> None:
        self.held = held
        self.changes: list[list[str]] = []
        self.asked: list[str] = []
        self.tells = True

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
        assert argv[0] != "borg" or env["TZ"] == "UTC"
        self.asked.append(argv[1])
        if "list" in argv:
            known = ("name", "start", *re.findall(r"{(\w+)}", argv[argv.index("--format") + 1]) * self.tells)
            return json.dumps({"archives": [{key: one[key] for key in known} for one in self.held]})
        if "info" in argv:
            return json.dumps({"archives": [one for one in self.held if argv[-1] == f"/repo::{one['name']}"]})
        if "snapshots" in argv:
            return json.dumps(self.held)
        self.changes.append(list(argv))
        return ""

    def told(self, argv: Sequence[str], action: OnTainted = "rename") -> list[str]:
        answer = self.marked(argv, action)
        assert not answer.sound
        return list(answer.lines)

    def marked(
        self, argv: Sequence[str], action: OnTainted = "rename", sound_until: float = 0.0, *only: str, ran: Span = RAN
    ) -> Marked:
        plugin = borg if argv[0] == "borg" else restic
        invocation = Invocation(tuple(argv), {"HOME": "/root"}, "/")
        answer: Marked | None = plugin.borg_lvm_taint(invocation, Tainted(ran, action, self.run, sound_until, only))
        assert answer is not None
        return answer


def test_borgs_archive_gets_a_name_that_no_pattern_of_the_host_matches() -> None:
    repository = Repository(archive("h-0", BEGIN - 60), archive("h-1"))
    told = repository.told(BORG)
    assert told == ["borg's archive h-1 is now called borg-lvm-tainted-h-1: delete it"]
    assert repository.changes == [["borg", "rename", "--lock-wait=9", "/repo::h-1", "borg-lvm-tainted-h-1"]]


def test_borg_info_is_asked_only_for_what_the_list_does_not_tell() -> None:
    """It reads all metadata of an archive. Borg before 1.1.18 lists no command line, and none lists all bytes."""
    repository = Repository(archive("h-1"))
    repository.told(BORG, "keep")
    assert repository.asked == ["list"]
    repository.tells = False
    repository.told(BORG, "keep")
    assert repository.asked == ["list", "list", "info"]
    other = Repository(archive("h-1", command=(*BORG, "/srv/?x")))
    other.told((*BORG, "/srv/?x"), "keep")
    assert other.asked == ["list", "info"]


def test_borgs_archive_is_deleted_or_only_named() -> None:
    repository = Repository(archive("h-1"))
    assert repository.told(BORG, "keep") == ["borg's archive h-1 is invalid: delete it"]
    assert repository.changes == []
    assert repository.told(BORG, "delete") == ["borg's archive h-1 has been deleted"]
    assert repository.changes == [["borg", "delete", "--lock-wait=9", "/repo::h-1"]]


@pytest.mark.parametrize(
    "other",
    [
        archive("a", BEGIN - 60),
        archive("a", END + 60),
        archive("a", host="elsewhere"),
        archive("a", command=(*BORG, "/home")),
        archive("a", command=BORG[:-1]),
    ],
)
def test_an_archive_of_another_run_is_not_touched(other: dict[str, object]) -> None:
    repository = Repository(other)
    actions: tuple[OnTainted, ...] = ("rename", "delete", "keep")
    for action in actions:
        assert repository.told(BORG, action) == ["borg has saved no archive in this run"]
    assert repository.changes == []


@pytest.mark.parametrize("argv", [("borg", "-r", "/repo", "create", "name", "/srv"), ("borg", "with-lock", "/r", "sh")])
def test_what_borg_2_or_a_script_has_made_is_not_guessed(argv: Sequence[str]) -> None:
    repository = Repository(archive("name"))
    (told,) = repository.told(argv)
    assert told.startswith("borg-lvm cannot tell which archive")
    assert repository.changes == []


def test_restics_snapshot_gets_a_tag() -> None:
    repository = Repository(snapshot("aa", BEGIN - 9), snapshot("bb"))
    (told,) = repository.told(RESTIC)
    assert told.startswith("restic's snapshot bb has now the tag borg-lvm-tainted")
    assert repository.changes == [["restic", "--repo=/repo", "tag", "--add", "borg-lvm-tainted", "bbbbbbbb"]]


@pytest.mark.parametrize(
    "other", [snapshot("a", END + 9), snapshot("a", BEGIN + 1, HOST + "x"), snapshot("a", BEGIN + 1, "there", "/home")]
)
def test_a_snapshot_of_another_run_is_not_touched(other: dict[str, object]) -> None:
    repository = Repository(other)
    assert repository.told(RESTIC, "delete") == ["restic has saved no snapshot in this run"]
    assert repository.changes == []


def test_of_two_snapshots_neither_is_touched() -> None:
    repository = Repository(snapshot("a"), snapshot("b"))
    (told,) = repository.told(RESTIC, "delete")
    assert "none was touched" in told
    assert repository.changes == []


def test_a_dry_run_has_saved_nothing() -> None:
    assert Repository().told((*BORG[:4], "--dry-run", *BORG[4:])) == []
    assert Repository().told((*RESTIC, "--dry-run")) == []


def test_borgs_archive_that_was_finished_in_time_is_left_alone() -> None:
    repository = Repository(archive("h-1", end=BEGIN + 100))
    assert repository.marked(BORG, "delete", BEGIN + 102) == Marked(
        ("borg's archive h-1 was finished before that: it is sound",), sound=True, all_judged=True
    )
    assert repository.changes == []
    assert not repository.marked(BORG, "keep", BEGIN + 100.5).sound  # borg may have cut its time to a second
    assert not Repository(archive("h-1.checkpoint", end=BEGIN + 9)).marked(BORG, "keep", END).sound
    assert not Repository().marked(BORG, "keep", END).sound  # nothing was saved: that is no sound backup


def test_restics_snapshot_that_was_finished_in_time_is_left_alone() -> None:
    """Since restic 0.17 it says when that was."""
    repository = Repository({**snapshot("bb"), "summary": {"backup_end": in_go(BEGIN + 100)}})
    answer = repository.marked(RESTIC, "delete", BEGIN + 101)
    assert answer == Marked(("restic's snapshot bb was finished before that: it is sound",), sound=True)
    assert repository.changes == []
    assert not repository.marked(RESTIC, "keep", BEGIN + 99).sound
    assert not Repository(snapshot("bb")).marked(RESTIC, "keep", END).sound


AHEAD, BACK = (Span(BEGIN, BEGIN + 60, ((BEGIN + 60 + by, END + by),)) for by in (86400, -3600))
"""The clock was set after a minute."""


def test_what_was_begun_when_the_clock_had_been_put_forward_is_this_runs() -> None:
    borgs, restics = Repository(archive("a", BEGIN + 86500)), Repository(snapshot("bb", BEGIN + 86500))
    assert borgs.marked(BORG, ran=AHEAD).lines == ("borg's archive a is now called borg-lvm-tainted-a: delete it",)
    assert restics.marked(RESTIC, "delete", ran=AHEAD).lines == ("restic's snapshot bb has been forgotten",)
    for held, argv in ((archive("a", BEGIN + 3600), BORG), (snapshot("bb", BEGIN + 3600), RESTIC)):
        assert "has saved no" in Repository(held).marked(argv, ran=AHEAD).lines[0]


def test_what_may_be_of_an_earlier_run_because_the_clock_was_put_back_is_named_and_not_touched() -> None:
    borgs, restics = Repository(archive("a", BEGIN - 3500)), Repository(snapshot("bb", BEGIN - 3500))
    doubt = "is invalid, unless it is of an earlier run: the clock was put back to its time while the command ran"
    assert borgs.marked(BORG, "delete", ran=BACK).lines == (f"borg's archive a {doubt}",)
    assert restics.marked(RESTIC, "delete", ran=BACK).lines == (f"restic's snapshot bb {doubt}",)
    assert borgs.changes == restics.changes == []


def test_what_was_read_back_and_differs_is_marked_wherever_the_clock_was() -> None:
    borgs, restics = Repository(archive("a", BEGIN - 3500)), Repository(snapshot("bb", BEGIN - 3500))
    assert "is now called" in borgs.marked(BORG, "rename", 0.0, "/repo::a", ran=BACK).lines[0]
    assert "has now the tag" in restics.marked(RESTIC, "rename", 0.0, "snapshot bbbbbbbb", ran=BACK).lines[0]


def test_another_program_is_not_mine() -> None:
    for plugin in (borg, restic):
        invocation = Invocation(("tar", "-cf", "/x", "/y"), {}, "/")
        assert plugin.borg_lvm_taint(invocation, Tainted(Span(BEGIN, END), "rename", Repository().run)) is None
