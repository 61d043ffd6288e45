"""How long the snapshots of a run will exist, and why, in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from borg_lvm.planning.space.usage_estimate import RUNS, Once

if TYPE_CHECKING:
    from borg_lvm.plugins.backup_command import Reading


def lifetime(reading: Reading, past: Iterable[Sequence[Once]]) -> str:
    """Return until when snapshots exist, and what that has taken; `past` are the runs of each volume.

    What follows the reading of the sources needs none, but only the program knows when it has read all.
    """
    until = f"until {reading.program if reading.action else 'the command'} has ended{_took(past)}"
    if not reading.afterwards:
        return until
    actions = " and ".join(filter(None, (", ".join(reading.afterwards[:-1]), reading.afterwards[-1])))
    loss = "the loss of one then is a warning" if reading.reads_once else "the loss of one then ends them"
    return (
        f"{until}, also during {actions}, which read no source ({loss}): better run `{reading.program} create` in"
        f" borg-lvm, and {actions} without it afterwards"
    )


def _took(past: Iterable[Sequence[Once]]) -> str:
    latest = [runs[-RUNS:] for runs in past if runs]
    if not latest:
        return ""
    from borg_lvm.planning.space.growth_policy import duration

    longest = max(run.seconds for runs in latest for run in runs)
    count = max(map(len, latest))
    return f" ({duration(longest)} in the last run)" if count == 1 else f" (up to {duration(longest)} in {count} runs)"
