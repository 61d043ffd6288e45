"""Finds out whether KVM really starts a guest here; the device node alone promises nothing."""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab import guest
from tests.lab.events import Tally
from tests.lab.job import Job
from tests.lab.kernels import Kernel
from tests.lab.paths import LAB

PATIENCE = 10.0  # a guest with KVM is up in two seconds


def accelerator(kernel: Kernel) -> str:
    """Return "kvm" or "tcg"; asked once for each boot of this machine. UML needs neither."""
    if kernel.is_uml:
        return "uml"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = LAB / "accelerator"
    if known.is_file():
        words = known.read_text().split()
        if len(words) == 2 and words[0] == boot:
            return words[1]
    print("lab: trying KVM", flush=True)
    job = Job(["true"], PATIENCE)
    outcome = guest.run(job, kernel, "kvm", Tally(job.nonce, "kvm"))
    found = "kvm" if outcome.exit_status == 0 else "tcg"
    known.write_text(f"{boot} {found}\n")
    return found
