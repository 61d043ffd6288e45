"""A gate before a backup program: what the test does between its two sides happens while the backup runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.system.support.runs.program import BIN, Said, environment

PATIENCE = 600.0  # seconds; an overloaded machine is not what is tested here

# The real program follows once the test has opened the gate. `{before}` are the test's own words of shell.
SCRIPT = """\
#!/bin/sh
{before}
case "$*" in {only}) ;; *) exec {program} "$@" ;; esac
: >{directory}/started
while [ ! -e {directory}/open ]; do sleep 0.1; done
exec {program} "$@"
"""


class NeverStartedError(AssertionError):
    """The program before the gate ended, or did not come to it in time."""


class Gate:
    """Stands in for a program, under its name; the directory must lie on no volume that is frozen."""

    def __init__(self, directory: Path, name: str, before: str = "", only: str = "*") -> None:
        """Make it. Calls whose words do not match the shell's pattern `only` pass by it."""
        self.directory = directory
        directory.mkdir()
        self.program = directory / name
        real = shutil.which(name, path=environment()["PATH"])
        assert real is not None, f"{name} is not installed"
        quoted = shlex.quote(str(directory))
        self.program.write_text(SCRIPT.format(before=before, directory=quoted, program=shlex.quote(real), only=only))
        self.program.chmod(0o755)

    @contextmanager
    def closed(
        self, *argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, status: int = 0
    ) -> Iterator[Passing]:
        """Start a command that comes to this gate, wait until it stands before it, open it at the end of the block.

        It must end with `status`.
        """
        for name in ("started", "open"):
            (self.directory / name).unlink(missing_ok=True)
        with subprocess.Popen(
            [str(word) for word in argv],
            env=environment(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            passing = Passing(process.pid)
            try:
                self._wait(process)
                yield passing
            finally:
                (self.directory / "open").touch()
                out, err = process.communicate(timeout=PATIENCE)
                passing.said = Said(process.returncode, os.fsdecode(out), os.fsdecode(err))
        assert passing.said.status == status, passing.said

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not (self.directory / "started").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.terminate()
                (self.directory / "open").touch()
                out, err = process.communicate(timeout=PATIENCE)
                raise NeverStartedError(str(Said(process.returncode, os.fsdecode(out), os.fsdecode(err))))
            time.sleep(0.05)


class Passing:
    """The command's process id; and what it said, once it has ended."""

    said: Said

    def __init__(self, pid: int) -> None:
        self.pid = pid


BORG_LVM = BIN / "borg-lvm"
