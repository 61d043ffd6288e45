"""What is to be run, and the directory that its results go to."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.paths import CHECKOUT, OUT

KEPT_RUNS = 50


@dataclass(frozen=True)
class Job:
    """One command with its own nonce and its own directory for results."""

    command: list[str]
    timeout: float
    environment: dict[str, str] = field(default_factory=dict)
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    out: Path = field(default_factory=lambda: OUT / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")

    def write(self, variables: dict[str, str], *, terminal: bool = False) -> None:
        """Write what the guest reads: ``job`` (variables for its start) and ``command``."""
        self.out.mkdir(parents=True, exist_ok=True)
        forget_old_results()
        facts = {"checkout": str(CHECKOUT), "out": str(self.out), "terminal": "yes" if terminal else "no", **variables}
        (self.out / "job").write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in facts.items()))
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.exported().items()]
        lines += [f"cd {shlex.quote(str(CHECKOUT))} || exit 125", f"exec {shlex.join(self.command)}"]
        (self.out / "command").write_text("\n".join(lines) + "\n")

    def exported(self) -> dict[str, str]:
        """Return the environment that the command gets in a guest: little, and the same on every machine."""
        return {
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "TERM": os.environ.get("TERM", "dumb"),
            "PAGER": "cat",
            # What Python compiles in a guest is lost with it.
            "PYTHONDONTWRITEBYTECODE": "1",
            # Else setuptools, which is in `.venv`, has each Python import a module of its own: a tenth of a start.
            "SETUPTOOLS_USE_DISTUTILS": "stdlib",
            # Nobody answers device-mapper's requests for udev in this guest: do not wait for it.
            "DM_DISABLE_UDEV": "1",
            "LVM_SUPPRESS_FD_WARNINGS": "1",
            # borg tries its own parts at each start, which takes a fifth of it; that is not what is tested here.
            "BORG_SELFTEST": "disabled",
            **self.environment,
        }


def forget_old_results() -> None:
    """Keep the results of the last runs only; their names begin with the time."""
    runs = sorted(path for path in OUT.iterdir() if path.is_dir())
    for path in runs[:-KEPT_RUNS]:
        shutil.rmtree(path, ignore_errors=True)
