"""The one door to other programs: argument vectors, a scrubbed environment, a time limit, no shell.

Programs are started in a session of their own, so that a Ctrl-C on the terminal reaches the wrapped command and
us, but never an `lvcreate` half-way through. Nothing of ours is inherited but the three standard descriptors.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from borg_lvm.errors import BorgLvmError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Kept from our own environment: where LVM's configuration lies, and whether udev makes the device nodes.
KEPT = ("LVM_SYSTEM_DIR", "DM_DISABLE_UDEV", "DM_DISABLE_UDEV_FALLBACK")
DEFAULT_TIMEOUT = 120.0


class ProgramError(BorgLvmError):
    """A program failed; `stderr` holds its own words, `returncode` its exit status (0: it did not come to one)."""

    status = 71

    def __init__(self, argv: Sequence[str], reason: str, stderr: str = "", returncode: int = 0) -> None:
        words = tuple(line.strip() for line in stderr.splitlines() if line.strip())
        super().__init__(f"{argv[0]} {reason} ({' '.join(argv)})", details=words)
        self.stderr = stderr
        self.returncode = returncode


@dataclass(frozen=True)
class Account:
    """The user and group that a program runs as."""

    uid: int
    gid: int


def environment() -> dict[str, str]:
    """Return the environment that system programs get: C locale, a fixed PATH, nothing of the user's."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {"PATH": SYSTEM_PATH, "LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1", **kept}


def run(
    argv: Sequence[str], *, stdin: bytes = b"", timeout: float = DEFAULT_TIMEOUT, env: Mapping[str, str] | None = None
) -> str:
    """Run a program to its end and return what it wrote to its standard output.

    `stdin` is how secrets are handed over (never by argument); `timeout` is in seconds; `env` is added to the
    environment.
    Errors: ProgramError when it cannot be started, fails, or is still running at the time limit (it is killed, with
    what it has started).
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment(), **(env or {})},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramError(argv, _not_started(error)) from error
    with process:
        try:
            out, err = process.communicate(stdin, timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ProgramError(argv, f"did not end within {timeout:g} s and was killed") from error
            raise
    stderr = os.fsdecode(err)
    if process.returncode < 0:
        raise ProgramError(argv, f"was ended by signal {-process.returncode}", stderr)
    if process.returncode:
        raise ProgramError(argv, f"failed with status {process.returncode}", stderr, process.returncode)
    return os.fsdecode(out)


def _not_started(error: OSError) -> str:
    return "is not installed" if isinstance(error, FileNotFoundError) else f"cannot be started: {error.strerror}"


@contextmanager
def talking(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, user: Account | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program that is told what to do on its standard input; both its outputs are one pipe.

    `env` is added to the environment; `user` is who it runs as, if not as root.
    Errors: ProgramError when it cannot be started.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env={**environment(), **(env or {})},
            cwd="/",
            start_new_session=True,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    except OSError as error:
        raise ProgramError(argv, _not_started(error)) from error
    with process:
        yield process
