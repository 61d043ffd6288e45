"""Whether what is saved is read back: what `check` says of that. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from borg_lvm.check.finding import Finding
from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.reporting import proof


def findings(planned: PlannedProof | None, provable: bool) -> Iterator[Finding]:
    """Yield what is read back of what a plan's command saves; `provable`: it could be read back."""
    if planned:
        yield Finding("ok", "proof", f"read back: {proof.planned_line(planned)}")
    elif provable:
        yield Finding(
            "note",
            "proof",
            "what is saved is not read back: whether the archive holds it is not proven",
            "--prove sample, or prove: {mode: sample} in the configuration",
        )
