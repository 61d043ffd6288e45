"""Installs a release's wheel as its users do: by pipx and by uv, each into a scratch directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab import tools
from tests.release.build import ReleaseError

TOOLS = {
    "pipx": (["install", "--quiet", "--python", sys.executable], {"PIPX_HOME": "home", "PIPX_BIN_DIR": "bin"}),
    "uv": (
        ["tool", "install", "--quiet", "--python", sys.executable],
        {"UV_TOOL_DIR": "home", "UV_TOOL_BIN_DIR": "bin"},
    ),
}
"""For each its words before the wheel, and the variables that say where it is to put the program and links to it."""
PLACE = "import sys; from borg_lvm.installation import programs; print(programs.directory(sys.argv[1]))"


def attempt(wheel: Path, version: str) -> None:
    """Install it by each, and use it. Raises: ReleaseError if it cannot be installed, or is not all there."""
    for name, (words, places) in TOOLS.items():
        with tempfile.TemporaryDirectory() as scratch:
            own = {variable: f"{scratch}/{place}" for variable, place in places.items()}
            _said(name, [str(tools.programs("release") / name), *words, str(wheel)], own)
            program = Path(scratch, "bin", "borg-lvm")
            if _said(name, [str(program), "--version"]).split()[-1:] != [version]:
                raise ReleaseError(f"{name}: the program is of another version")
            for words_of_ours, expected in ((["hooks"], r"(?m)^borg +enabled"), (["setup"], r"borg-lvm@\.service\n")):
                if not re.search(expected, _said(name, [str(program), *words_of_ours])):
                    raise ReleaseError(f"{name}: borg-lvm {' '.join(words_of_ours)} does not work")
            python = program.resolve().parent / "python"
            if (place := _said(name, [str(python), "-c", PLACE, str(program)]).strip()) != str(program.parent):
                raise ReleaseError(f"{name}: units would start what is in {place}, not in {program.parent}")


def _said(name: str, command: list[str], own: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env={**os.environ, **(own or {})}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{name}: {' '.join(command)} ended with status {done.returncode}: {done.stderr}")
    return done.stdout
