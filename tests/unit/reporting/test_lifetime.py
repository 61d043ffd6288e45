"""How long snapshots will exist, in words."""

from __future__ import annotations

from borg_lvm.planning.space.usage_estimate import Once
from borg_lvm.plugins.backup_command import Reading
from borg_lvm.reporting.lifetime import lifetime

CREATE = Reading("borg", "create")
ALL = Reading("borgmatic", "create prune compact check", afterwards=("prune", "compact", "check"))
COMPACT = Reading("borgmatic", "create compact", afterwards=("compact",), reads_once=True)


def test_until_the_program_has_ended_and_why() -> None:
    assert lifetime(CREATE, [[]]) == "until borg has ended"
    assert lifetime(Reading("script", ""), []) == "until the command has ended"


def test_what_follows_without_need_is_named_and_what_a_loss_means_then() -> None:
    told = lifetime(ALL, [])
    assert "also during prune, compact and check, which read no source (the loss of one then ends them)" in told
    assert "run `borgmatic create` in borg-lvm" in told
    assert "during compact, which read no source (the loss of one then is a warning)" in lifetime(COMPACT, [])


def test_the_longest_of_the_last_runs_is_told() -> None:
    assert "ended (12 min in the last run)" in lifetime(CREATE, [[Once(720, 1, 2)], []])
    runs = [Once(9000, 1, 2), *(Once(60, 1, 2) for _ in range(5))]
    assert "ended (up to 60 s in 5 runs)" in lifetime(CREATE, [runs, [Once(5, 1, 2)]])
