"""What is said of what a command has saved from a lost snapshot, where no plugin can tell its archives apart."""

from __future__ import annotations

from datetime import datetime

import pytest

from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import Invocation, Marked, Span
from borg_lvm.session import mark_tainted
from borg_lvm.session.mark_tainted import LossTimes

BEGIN, LAST = 1_800_000_000.0, 1_800_000_100.9


def told(sound_until: float, *argv: str, hooks: tuple[str, ...] = ()) -> tuple[str, ...]:
    invocation = Invocation(argv, {}, "/")
    return mark_tainted.mark(hooks, invocation, "rename", LossTimes(Span(BEGIN, BEGIN + 200), sound_until)).lines


@pytest.mark.parametrize(
    ("argv", "hooks"),
    [
        (("/usr/local/sbin/backup-everything",), ("borg", "restic")),
        (("view nightly",), ("borg",)),
        (("tar", "-cf", "/b/a.tar", "/srv"), ("tar",)),
        (("borg", "create", "-r", "/r", "a", "/srv"), ("borg",)),
    ],
)
def test_what_was_finished_before_the_loss_is_told_by_its_time(argv: tuple[str, ...], hooks: tuple[str, ...]) -> None:
    moment = datetime.fromtimestamp(int(LAST) - 1).astimezone().strftime("%Y-%m-%d %H:%M:%S%z")
    *first, last = told(LAST, *argv, hooks=hooks)
    assert last == f"except archives that were finished before {moment}: they are sound"
    assert "delete" in first[-1]


@pytest.mark.parametrize(("all_judged", "more"), [(True, 0), (False, 1)])
def test_of_what_a_plugin_has_judged_itself_nothing_more_is_said(
    monkeypatch: pytest.MonkeyPatch, all_judged: bool, more: int
) -> None:
    """`borg has saved no archive in this run`, except …?"""
    marked = Marked(("borg has saved no archive in this run",), all_judged=all_judged)
    monkeypatch.setattr(manager, "taint", lambda *given: marked)
    assert len(told(LAST, "borg", "create", "/r::a", "/srv")) == 1 + more


def test_the_words_of_the_program_do_not_cut_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> Marked:
        raise ProgramError(("borg", "list"), "failed with status 2", "Failed to create/acquire the lock /r (timeout).")

    monkeypatch.setattr(manager, "taint", locked)
    first, words, delete, last = told(LAST, "borg", "create", "/r::a", "/srv")
    assert first == "what was saved could not be marked: borg failed with status 2"
    assert words == "Failed to create/acquire the lock /r (timeout)."
    assert delete == "delete what this run saved"
    assert last.startswith("except archives that were finished before ")


def test_no_time_proves_anything_where_the_clock_was_set_or_a_path_was_live() -> None:
    assert told(0.0, "script") == ("cannot mark what `script` wrote: delete what this run saved",)
