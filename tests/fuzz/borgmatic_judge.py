"""The borgmatics that are installed, as judges of what ours reads out of a command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAIN = Path(__file__).with_name("borgmatic_judge_main.py")
SYSTEM = "/usr/bin/borgmatic"


@dataclass(frozen=True)
class Case:
    """A command line, where it runs, and the files that are there, by their names below `cwd`."""

    cwd: str
    env: Mapping[str, str]
    args: tuple[str, ...]


@dataclass(frozen=True)
class Judge:
    """A borgmatic that is asked by lines; it has borg's own parser beside it."""

    process: subprocess.Popen[str]

    def roots(self, case: Case) -> list[str] | str:
        """Return what it has borg read, or why it refuses."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([case.cwd, dict(case.env), case.args]) + "\n")
        self.process.stdin.flush()
        answer: list[str] | str = json.loads(self.process.stdout.readline())
        return answer


def interpreters() -> list[str]:
    """Return the Pythons that have a borgmatic: our own, and that of the system's (1.7.7 in Debian 12)."""
    own = [sys.executable] if (Path(sys.executable).parent / "borgmatic").exists() else []
    if not os.path.exists(SYSTEM):
        return own
    first = Path(SYSTEM).read_text().splitlines()[0].removeprefix("#!").strip()
    return [*own, first] if shutil.which(first) and first not in own else own


@contextmanager
def judges(wanted: Sequence[str] | None = None) -> Iterator[list[Judge]]:
    """Start all borgmatics that there are; they end with the block."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    command = ["-I", "-W", "ignore", str(MAIN)]
    started = [
        subprocess.Popen(
            [name, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        for name in (interpreters() if wanted is None else wanted)
    ]
    try:
        yield [Judge(process) for process in started]
    finally:
        for process in started:
            process.communicate()
