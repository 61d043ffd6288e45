"""The command line of User Mode Linux: a Debian kernel that runs as a process, with the host's processor as it is.

Without KVM its guests are four to six times as fast as emulated ones (measured: `borg --version` 1.4 s instead of 8 s,
our own imports 0.5 s instead of 3.3 s), and need no root. It has one processor, and is but one kernel, an old one:
what depends on the kernel is tested on the emulated ones.

It is kept on one of the host's processors. Each system call in it is a hand-over between two processes of the host, and
one to another processor takes three times as long (measured: 11 s instead of 30 s for a dozen starts of Python).
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab.job import Job
from tests.lab.kernels import Kernel
from tests.lab.paths import LAB, memory

MEMORY = 3 << 30
"""Bytes that a guest may use at most, if the machine has twice as much."""

SHARED = Path("/dev/shm")
ROOM = 1 << 30


def arguments(job: Job, kernel: Kernel, initramfs: Path, ports: dict[str, int], processor: int) -> list[str]:
    """Return the arguments for a guest whose serial lines, from ttyS0 on, are the given file descriptors.

    What the kernel says goes to standard output.
    """
    # It has a directory below HOME for a socket and its process id, and panics if it cannot make that.
    result = ["env", f"TMPDIR={_memory_lies_in()}", f"HOME={job.out}"]
    result += ["taskset", "--cpu-list", str(processor), str(kernel.image)]
    result += [f"mem={min(MEMORY, memory() // 2) >> 20}M", f"initrd={initramfs}"]
    result += ["con=null", "con0=null,fd:1", "panic=-1"]
    result += [f"lab.nonce={job.nonce}", "lab.out=" + str(job.out).replace(" ", r"\040")]
    return result + [f"ssl{line}=fd:{number}" for line, number in enumerate(ports.values())]


def _memory_lies_in() -> Path:
    """Return the directory for the file that is a guest's memory.

    Containers often have a small /dev/shm, from which nothing may be executed; then it lies in the checkout, on disk.
    """
    found = os.statvfs(SHARED) if SHARED.is_dir() else None
    if found and not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= ROOM:
        return SHARED
    own = LAB / "memory"
    own.mkdir(parents=True, exist_ok=True)
    return own


def terminal() -> list[str]:
    """Return the arguments that make our own terminal the guest's tty1."""
    return ["con1=fd:0,fd:1"]
