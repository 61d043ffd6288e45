"""Lets borg run as it does on a server: in an environment that has what borg needs and nothing else.

Where pytest is installed borg imports it at each start, which is a third of that start. So `.venv/bin/borg` gets a
Python that sees borg's own packages alone; they are those of `.venv`, by links.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from tests.lab.paths import locked

VENV = Path(sys.prefix)
ALONE = VENV / "borg-alone"
LONGEST = 120
"""Bytes of an interpreter's path that every kernel reads, see execve(2): 127 with all that is around it."""


def borg() -> None:
    """Give `.venv/bin/borg` its own Python, unless it has it; without a borg there is nothing to do."""
    script = VENV / "bin" / "borg"
    python = ALONE / "bin" / "python"
    start = started_by(python)
    if not script.is_file() or script.read_text().startswith(start):
        return
    with locked("borg-alone"):
        shutil.rmtree(ALONE, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", ALONE], check=True)
        (packages,) = ALONE.glob("lib/python3*/site-packages")
        for found in needed("borgbackup").values():
            link(found, packages)
        _, _, text = script.read_text().partition("\n")
        half = script.with_name(".borg-alone")
        half.write_text(start + text)
        half.chmod(0o755)
        half.rename(script)


def started_by(python: Path) -> str:
    """Return how a script begins that this Python is to run: by a shell if the kernel would not find its path whole."""
    if re.search(r"\s", str(python)) or len(bytes(python)) > LONGEST:
        return f"#!/bin/sh\n'''exec' {shlex.quote(str(python))} \"$0\" \"$@\"\n' '''\n"  # to Python it is a text
    return f"#!{python}\n"


def needed(name: str) -> dict[str, Distribution]:
    """Return a distribution and all that it requires without extras, by their names."""
    found: dict[str, Distribution] = {}
    todo = [name]
    while todo:
        name = todo.pop()
        if name not in found:
            with suppress(PackageNotFoundError):  # one for another Python, say
                found[name] = distribution(name)
                required = [text for text in found[name].requires or [] if "extra ==" not in text]
                todo += [match[0] for text in required if (match := re.match(r"[\w.-]+", text))]
    return found


def link(found: Distribution, packages: Path) -> None:
    """Link what a distribution has put into site-packages, each by its first directory or file."""
    for file in found.files or []:
        first = file.parts[0]
        target = packages / first
        if first not in ("..", "__pycache__") and not target.exists():
            target.symlink_to(Path(str(found.locate_file(first))))
