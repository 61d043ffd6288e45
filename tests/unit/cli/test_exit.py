"""How the process ends: what was to be done at exit is done, and Python does not take itself apart after it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import atexit, os, sys
from borg_lvm.__main__ import main

class Module:
    def __del__(self):
        os.write(1, b"taken apart\\n")

kept = Module()
case = sys.argv.pop(1)
if case == "absent":
    sys.stdout = None
from borg_lvm.cli import main as cli
ours = cli.main

def also(argv):  # others register what they have to do at exit when they are imported, as here
    if case == "unwritable":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    if case != "absent":
        atexit.register(sys.stdout.write, "at exit\\n")
    if case == "fails":
        raise RuntimeError("of nobody's making")
    return ours(argv)

cli.main = also
main()
"""


def ended(case: str, *argv: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, case, *argv],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.process
@pytest.mark.parametrize(("argv", "status"), [(["--no-such-option"], 64), (["--version"], 0)])
def test_others_are_called_at_exit_and_nothing_is_taken_apart(argv: list[str], status: int) -> None:
    code, out, _ = ended("plain", *argv)
    assert code == status
    assert out.splitlines()[-1] == "at exit"


@pytest.mark.process
def test_an_exception_is_reported_by_python() -> None:
    code, out, err = ended("fails")
    assert code == 1
    assert "at exit" in out
    assert "RuntimeError: of nobody's making" in err


@pytest.mark.process
def test_what_cannot_be_written_at_exit_is_no_success() -> None:
    code, _, err = ended("unwritable", "--no-such-option")
    assert code == 120  # Python's own for that
    assert "No space left on device" in err


@pytest.mark.process
def test_an_output_that_is_not_there_is_not_flushed() -> None:
    assert ended("absent", "--no-such-option")[0] == 64
