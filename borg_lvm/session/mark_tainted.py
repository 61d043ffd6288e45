"""Having the plugins mark what was saved from a lost snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from borg_lvm.errors import BorgLvmError
from borg_lvm.linux import subprocesses
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import NOTHING, Invocation, Marked, OnTainted, Span, Tainted
from borg_lvm.records import dataclass
from borg_lvm.reporting.outcome import Outcome

TIMEOUT = 1800.0
"""Seconds for each program: a repository may be large and far away."""


@dataclass(frozen=True)
class LossTimes:
    """When the command ran, and until when all of its snapshots were right: Unix time.

    `only` are the archives that are wrong, if not all are.
    """

    ran: Span
    sound_until: float
    only: tuple[str, ...] = ()

    @classmethod
    def of(cls, outcome: Outcome) -> LossTimes:
        """Return that of a run. What was found to differ when it was read back is wrong, whenever it was finished."""
        wrong = outcome.proof.wrong if outcome.proof else ()
        return cls(outcome.ran, 0.0 if wrong else outcome.sound_until, wrong)


def mark(hooks: tuple[str, ...], invocation: Invocation, action: OnTainted, loss: LossTimes) -> Marked:
    """Have the command's archives marked, but for those that were finished before the loss; return the result.

    Nothing is raised: the run has failed already, and what matters is that it is reported. Who made them may be a
    script, or a reader of the view of `begin`: then the user can judge by their times.
    """
    marked = _marked(hooks, invocation, action, loss)
    known = marked.sound or marked.all_judged
    return marked if known else replace(marked, lines=(*marked.lines, *_until(loss)))


def _marked(hooks: tuple[str, ...], invocation: Invocation, action: OnTainted, loss: LossTimes) -> Marked:
    def run(argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
        return subprocesses.run(
            argv, timeout=TIMEOUT, place=subprocesses.ProgramPlace({**invocation.env, **env}, invocation.cwd)
        )

    tainted = Tainted(loss.ran, action, run, loss.sound_until, loss.only)
    by_hand = "delete what this run saved"
    try:
        marked = manager.taint(hooks, invocation, tainted)
    except subprocesses.ProgramError as error:
        return Marked((f"what was saved could not be marked: {error.brief}", *error.details, by_hand))
    except BorgLvmError as error:
        return Marked((f"what was saved could not be marked: {error.message}", *error.details, by_hand))
    except Exception as error:  # a stranger's plugin may fail in any way
        return Marked((f"what was saved could not be marked: {type(error).__name__}: {error}", by_hand))
    return marked or Marked((f"cannot mark what `{invocation.program}` wrote: {by_hand}",))


def _until(loss: LossTimes) -> Iterator[str]:
    """Yield until when what was saved is sound; a second less, for programs cut their times to seconds."""
    if loss.sound_until:
        moment = datetime.fromtimestamp(int(loss.sound_until) - 1).astimezone()
        yield f"except archives that were finished before {moment:%Y-%m-%d %H:%M:%S%z}: they are sound"
