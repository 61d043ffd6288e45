"""Reading back what the command has saved, in the course of a run: what is planned, and what becomes of the result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from borg_lvm.config.proof_settings import PlannedProof, ProofSettings
from borg_lvm.errors import BorgLvmError, SourceError
from borg_lvm.plugins import manager
from borg_lvm.records import dataclass

if TYPE_CHECKING:
    from borg_lvm.config.schema import Settings
    from borg_lvm.planning.plan import Plan
    from borg_lvm.plugins.backup_command import Invocation
    from borg_lvm.plugins.read_back import ReadBack
    from borg_lvm.proof import process
    from borg_lvm.reporting.outcome import Outcome
    from borg_lvm.reporting.proof import Proof
    from borg_lvm.view.host_view import HostView

UNNAMED = "`borg-lvm end` has not named the command that has read the view: borg-lvm end NAME -- COMMAND …"


@dataclass(frozen=True)
class ProofTask:
    """What is read back when a command has ended: what this command has saved, as planned.

    `base` is the directory of the view if the paths in it are not the usual ones; `why`: it cannot be read back.
    """

    planned: PlannedProof
    invocation: Invocation
    base: str = ""
    why: str = ""


def planned(
    plan: Plan, invocation: Invocation, hooks: tuple[str, ...], settings: ProofSettings, *, dry_run: bool
) -> Plan:
    """Return the plan with what will be read back in it: of a dry run, which saves nothing, nothing is.

    Raises: SourceError when what the command saves cannot be read back.
    """
    if settings.mode == "off" or dry_run:
        return plan
    answer = manager.read_back(hooks, invocation)
    if why := _refused(answer, invocation):
        raise SourceError(
            f"prove: what the command saves cannot be read back: {why}; nothing was done",
            remedy="run it without: --prove off, or `prove: {mode: off}` in the configuration",
        )
    return replace(plan, proof=_planned(plan, settings, answer))


def _refused(answer: ReadBack | None, invocation: Invocation) -> str:
    """Return why what a command saves cannot be read back; nothing if it can."""
    return answer.refused if answer else f"no plugin reads back what `{invocation.program}` saves"


def _planned(plan: Plan, settings: ProofSettings, answer: ReadBack | None) -> PlannedProof:
    data = (kept.path for application in plan.applications for kept in application.kept if not kept.missing)
    first = tuple(dict.fromkeys((*settings.always, *data)))
    seed = int.from_bytes(os.urandom(6), "big")
    how = answer.how.get(settings.mode, "") if answer else ""
    return PlannedProof(settings.mode, settings.files, settings.bytes.amount, settings.time_limit, first, seed, how)


def of_run(plan: Plan, invocation: Invocation) -> ProofTask | None:
    """Return what is read back at the end of a run; None if nothing is."""
    return ProofTask(plan.proof, invocation) if plan.proof else None


def of_view(view: HostView, invocation: Invocation, settings: Settings) -> ProofTask | None:
    """Return what is read back of what a command has saved from a view of `begin`; None if nothing is."""
    request = view.ended
    mode = (request.prove if request else None) or settings.prove.mode
    if request is None or mode == "off":
        return None
    proof, base = _planned(view.plan, replace(settings.prove, mode=mode), None), view.request.base
    proof = replace(proof, first=tuple(base + path for path in proof.first))
    return ProofTask(proof, invocation, base, _why_not(invocation, settings.hooks, base) if request.argv else UNNAMED)


def _why_not(invocation: Invocation, hooks: tuple[str, ...], base: str) -> str:
    """Return why what a command has saved from a view cannot be read back; nothing if it can."""
    try:
        reading = manager.read_command(hooks, invocation)
        if why := _refused(manager.read_back(hooks, invocation), invocation):
            return why
    except BorgLvmError as error:
        return error.message
    return "" if _is_read(base, reading.sources if reading else ()) else f"the command reads nothing of the view {base}"


def _is_read(base: str, sources: Sequence[str]) -> bool:
    return any(f"{os.path.normpath(source)}/".startswith(f"{base}/") for source in sources)


def can(invocation: Invocation, hooks: tuple[str, ...]) -> bool:
    """Whether what a command saves can be read back."""
    answer = manager.read_back(hooks, invocation)
    return answer is not None and not answer.refused


def after(asked: ProofTask, hooks: tuple[str, ...], outcome: Outcome, means: process.ProofMeans) -> Proof:
    """Read back what a command has saved that has ended. Raises: InterruptedRunError."""
    # Only here: a dozen modules, which a run that proves nothing does without.
    from borg_lvm.proof import process
    from borg_lvm.reporting.proof import Proof

    planned = asked.planned
    why = f"{outcome.subject} ended with status {outcome.status}" if outcome.status != 0 else asked.why
    if why:
        return Proof(planned.mode, "not proven", planned.seed, why=why)
    task = process.Task(planned, outcome.plan, asked.invocation, hooks, outcome.ran, asked.base)
    with means.log.step(f"reading back ({planned.mode})"):
        return process.prove(task, means)
