"""Whether what is saved is read back: what `check` says of that. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from borg_lvm.check.finding import Finding
from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.reporting import proof


def findings(planned: PlannedProof | None, provable: bool) -> Iterator[Finding]:
    """Yield what is read back of what a plan's command saves; `provable`: it could be read back."""
    if planned:
        yield Finding("ok", "proof", proof.told(planned))
    elif provable:
        yield Finding(
            "note",
            "proof",
            "what is saved is not read back: nobody knows whether the archive holds what was frozen",
            "prove: {mode: sample} in the configuration, or --prove sample",
        )
