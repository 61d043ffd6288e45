"""How many modules a command line loads, before anything is done: counts, for seconds tell of the machine.

A start is imports for the most part. What a command line does not need is imported where it is used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
before = set(sys.modules)
os.geteuid = lambda: 0
from borg_lvm.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""
UNKNOWN = ["run", "--", "borg", "create", "--no-such-option", "r::a", "/srv"]
ABSENT = ["run", "--path", "/no/such/path", "--", "true"]


MORE = 4 if sys.version_info >= (3, 14) else 0
"""Of 3.14's argparse, which imports the colours of its help, and `inspect` for these."""


def loaded(*argv: str) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "borg").touch(0o755)  # it is looked up, and not started
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *argv],
            env={**os.environ, "PATH": f"{directory}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    found: list[str] = json.loads(done.stderr.splitlines()[-1])
    return found


def own(names: list[str]) -> list[str]:
    return [name for name in names if name.partition(".")[0] in ("borg_lvm", "borg_lvm_hooks")]


@pytest.mark.process
@pytest.mark.parametrize(
    ("argv", "most", "most_own"),
    [
        (["--help"], 30, 10),
        (["run", "--help"], 30, 10),
        (["run"], 32, 13),
        (["--config", "x", "run"], 32, 11),
        (UNKNOWN, 175, 107),
        (ABSENT, 170, 103),
    ],
)
def test_little_is_loaded(argv: list[str], most: int, most_own: int) -> None:
    """`most_own` of ours is as it is; what Python itself imports differs from release to release."""
    names = loaded(*argv)
    print(len(names), len(own(names)))
    advice = "import it in the function that needs it; a new plugin of `hooks` has its package and plugin.py more"
    assert len(own(names)) <= most_own, f"{len(own(names))} modules of ours, {most_own} at most; {advice}: {own(names)}"
    assert len(names) <= most + MORE, names


@pytest.mark.process
@pytest.mark.parametrize("argv", [UNKNOWN, ABSENT])
def test_a_refused_command_line_loads_nothing_of_what_a_run_does(argv: list[str]) -> None:
    names = loaded(*argv)
    assert "borg_lvm.session.survey" in names
    done_by_a_run = (
        *("session.run", "session.recorder", "session.cleanup", "reporting.outcome", "reporting.certificate"),
        *("quiesce", "watchdog", "check", "proof.process", "snapshots.take", "snapshots.lvm.create", "view.command"),
    )
    assert [name for name in names if name.removeprefix("borg_lvm.").startswith(done_by_a_run)] == []


@pytest.mark.process
def test_a_plan_does_without_compressors_and_sockets() -> None:
    """`shutil` imports five of them; what it does here takes three lines."""
    assert {"shutil", "bz2", "lzma", "socket", "random", "hashlib", "traceback"} & set(loaded(*UNKNOWN)) == set()
