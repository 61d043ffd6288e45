"""Reading back what the command has saved, in the course of a run: what is planned, and what becomes of the result."""

from __future__ import annotations

import os
from dataclasses import replace

from borg_lvm.config.proof_settings import PlannedProof, ProofSettings
from borg_lvm.errors import SourceError
from borg_lvm.planning.plan import Plan
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.plugins.read_back import Span
from borg_lvm.proof import process
from borg_lvm.reporting.outcome import Outcome
from borg_lvm.reporting.proof import Proof


def planned(
    plan: Plan, invocation: Invocation, hooks: tuple[str, ...], settings: ProofSettings, *, dry_run: bool
) -> Plan:
    """Return the plan with what will be read back in it: of a dry run, which saves nothing, nothing is.

    Raises: SourceError when what the command saves cannot be read back.
    """
    if settings.mode == "off" or dry_run:
        return plan
    answer = manager.read_back(hooks, invocation)
    why = answer.refused if answer else f"no plugin reads back what `{invocation.program}` saves"
    if answer is None or why:
        raise SourceError(
            f"prove: what the command saves cannot be read back: {why}; nothing was done",
            remedy="run it without: --prove off, or `prove: {mode: off}` in the configuration",
        )
    data = (kept.path for one in plan.applications for kept in one.kept if not kept.missing)
    first = tuple(dict.fromkeys((*settings.always, *data)))
    seed = int.from_bytes(os.urandom(6), "big")
    how = answer.how.get(settings.mode, "")
    proof = PlannedProof(settings.mode, settings.files, settings.bytes.amount, settings.time_limit, first, seed, how)
    return replace(plan, proof=proof)


def refuse_view(settings: ProofSettings) -> None:
    """Raise SourceError if what is saved from a view of `begin` is to be read back: nobody knows the command."""
    if settings.mode != "off":
        raise SourceError(
            "prove: what is saved from a view of `begin` cannot be read back: the command that saves it is not known; "
            "nothing was done",
            remedy="begin it with --prove off; or have it proven by borg-lvm run --prove MODE -- COMMAND",
        )


def can(invocation: Invocation, hooks: tuple[str, ...]) -> bool:
    """Whether what a command saves can be read back."""
    answer = manager.read_back(hooks, invocation)
    return answer is not None and not answer.refused


def after(invocation: Invocation, hooks: tuple[str, ...], outcome: Outcome, means: process.Means) -> Proof:
    """Read back what a command has saved that has ended. Raises: InterruptedRunError."""
    plan = outcome.plan
    assert plan.proof
    if outcome.status != 0:
        why = f"{outcome.subject} ended with status {outcome.status}"
        return Proof(plan.proof.mode, "not proven", plan.proof.seed, why=why)
    span = Span(outcome.begin, outcome.begin + outcome.seconds)
    task = process.Task(plan.proof, plan, invocation, hooks, span)
    with means.log.step(f"reading back ({plan.proof.mode})"):
        return process.prove(task, means)
