"""Runs a job in a virtual machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.lab import mconsole, populate, qemu, uml
from tests.lab.events import Tally
from tests.lab.initramfs import initramfs
from tests.lab.job import Job
from tests.lab.kernels import Kernel
from tests.lab.paths import turn
from tests.lab.watch import Outcome, Streams, Watch

PLACED = "placed"
"""The event of a guest that need not wait for others any more, for who starts several."""

TAIL = 60  # lines of the guest's kernel log that a failure shows


def run(job: Job, kernel: Kernel, accelerator: str, tally: Tally) -> Outcome:
    """Boot a guest, run the job's command in it, and return how that ended."""
    job.write(_facts(kernel))
    with turn(whole=not kernel.is_uml) as processor, _ports("record", "events", "output") as (ours, theirs):
        if tally.relay:
            tally.relay({"event": PLACED})
        numbers = {name: end.fileno() for name, end in theirs.items()}
        command = _arguments(job, kernel, accelerator, numbers, processor)
        with started(command, tuple(numbers.values()), job.out / "console.log") as child:
            for end in theirs.values():
                end.close()
            streams = Streams(ours["output"].fileno(), ours["record"].fileno(), ours["events"].fileno())
            outcome = Watch(child, streams, tally, job.timeout).follow()
            if outcome.problems and child.poll() is None:
                print(mconsole.blocked(job.out), flush=True)
    if outcome.kernel is not None and outcome.kernel != kernel.release:
        outcome.problems.append(f"the guest ran {outcome.kernel}, not {kernel.release}")
    return outcome


def shell(job: Job, kernel: Kernel, accelerator: str) -> int:
    """Boot a guest whose command has our terminal; the nonce proves nothing here, a person looks on."""
    job.write(_facts(kernel), terminal=True)
    with _ports("record", "events") as (_, theirs):
        numbers = {name: end.fileno() for name, end in theirs.items()}
        command = (
            _arguments(job, kernel, accelerator, numbers, min(os.sched_getaffinity(0)))
            + (uml if kernel.is_uml else qemu).terminal()
        )
        return subprocess.run(command, pass_fds=tuple(numbers.values()), check=False).returncode


def _facts(kernel: Kernel) -> dict[str, str]:
    machine = "uml" if kernel.is_uml else "qemu"
    preloaded = populate.library() if kernel.is_uml else ""
    return {"release": kernel.release, "modules": str(kernel.modules), "machine": machine, "preloaded": preloaded}


def _arguments(job: Job, kernel: Kernel, accelerator: str, ports: dict[str, int], processor: int) -> list[str]:
    if kernel.is_uml:
        return uml.arguments(job, kernel, initramfs(kernel), ports, processor)
    return qemu.arguments(job, kernel, initramfs(kernel), accelerator, ports)


@contextlib.contextmanager
def started(command: list[str], descriptors: tuple[int, ...], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the machine; kill it at the end by its own process id, and let the kernel do so should we die first.

    `said` is the file for what it says itself: QEMU's complaints, or all of UML's console.
    """
    watched = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    with said.open("ab") as log:
        child = subprocess.Popen(
            watched,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=descriptors,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        # User Mode Linux is a process for each of its own; its group is theirs alone (start_new_session).
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@contextlib.contextmanager
def _ports(*names: str) -> Iterator[tuple[dict[str, socket.socket], dict[str, socket.socket]]]:
    """Give a connected pair of sockets for each name: our ends and QEMU's."""
    with contextlib.ExitStack() as stack:
        pairs = {name: socket.socketpair() for name in names}
        for pair in pairs.values():
            for end in pair:
                stack.enter_context(end)
        yield {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}


def kernel_log(out: Path) -> str:
    """Return the tail of the guest's console, where a panic is seen as well."""
    console = out / "console.log"
    if not console.is_file():
        return ""
    return "\n".join(console.read_text(errors="replace").splitlines()[-TAIL:])
