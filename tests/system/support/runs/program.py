"""Starting borg-lvm and other real programs in a test, and reading what they said."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.support.runs import certificates

BIN = Path(sys.executable).parent
OURS = shlex.quote(str(BIN / "borg-lvm"))
"""Our program in a line of a shell."""
AHEAD = -10
"""How nice what a test waits for is: a guest has one processor, and six writers, say, would leave a seventh of it."""


@dataclass(frozen=True)
class Said:
    """How a program ended and what it wrote."""

    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@contextmanager
def ahead() -> Iterator[None]:
    """Have what is started in this block go before all else, without a program more to start."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, usual + AHEAD)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a user's shell: the project's own programs first in PATH."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", **(extra or {})}


def run(
    *argv: str | Path,
    status: int | None = 0,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    stdin: str = "",
) -> Said:
    """Run a program; `status` is what it must end with (None: anything)."""
    with ahead():
        done = subprocess.run(
            [*map(str, argv)],
            env=environment(env),
            cwd=cwd,
            input=stdin.encode(),
            capture_output=True,
            check=False,
            timeout=300,
        )
    said = Said(done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr))
    certificates.validate_new()
    assert status is None or said.status == status, str(said)  # whole: pytest shortens what is no text
    return said


def borg_lvm(
    *argv: str | Path,
    status: int | None = 0,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
) -> Said:
    """Run `borg-lvm`, as a user would."""
    return run(BIN / "borg-lvm", *argv, status=status, env=env, cwd=cwd)


def start(argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a program that goes on while the test does something else; its output can be read from it."""
    return subprocess.Popen(
        [str(word) for word in argv],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
