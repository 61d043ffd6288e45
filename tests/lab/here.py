"""Runs a job directly on this machine: its kernel has device-mapper and we are root."""

from __future__ import annotations

import os
import platform
import signal
import subprocess

from tests.lab.events import Tally
from tests.lab.job import Job
from tests.lab.paths import CHECKOUT
from tests.lab.watch import Outcome, Streams, Watch


def run(job: Job, tally: Tally) -> Outcome:
    """Run the command in a mount namespace of its own, so that no mount of a test is ever seen outside."""
    job.out.mkdir(parents=True, exist_ok=True)
    fifo = job.out / "events"
    os.mkfifo(fifo)
    # Opened for both, it has a writer at all times and never ends before the command does.
    events = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    private = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private", "--"]
    # Shared again inside, as on a machine that systemd has started: what leaks on servers must leak here, too.
    private += ["sh", "-c", 'mount --make-rshared / && exec "$@"', "sh"]
    child = subprocess.Popen(
        [*private, *job.command],
        cwd=CHECKOUT,
        env=_environment(job),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert child.stdout is not None
    try:
        outcome = Watch(child, Streams(child.stdout.fileno(), None, events), tally, job.timeout).follow()
    finally:
        _end(child)
        child.stdout.close()
        os.close(events)
    if not outcome.problems or child.returncode >= 0:
        # Here we are the parent and see the end ourselves: no record is needed.
        outcome.problems = [text for text in outcome.problems if "without saying" not in text]
        outcome.status = child.returncode if child.returncode >= 0 else 128 - child.returncode
    outcome.kernel = platform.release()
    return outcome


def _environment(job: Job) -> dict[str, str]:
    lab = {"BORG_LVM_LAB": "here", "BORG_LVM_LAB_OUT": str(job.out), "BORG_LVM_LAB_NONCE": job.nonce}
    return {**os.environ, **job.environment, **lab, "BORG_LVM_LAB_EVENTS": str(job.out / "events")}


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the command's session (its process group carries our child's id); terminate first, so that it can tidy up."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()
