"""Printing where nobody reads any more, or where nothing can be written: as other programs do, without a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HELP = [("--help",), ("run", "--help"), ("--version",), ("hooks",)]
PRINTING = [*HELP, ("history", "--json"), ("history",), ("report",)]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path) -> Path:
    """Give a history with a run that cannot be shown, and one that is long."""
    for name in ("20240102T030405-abcdef.json", "20240102T030406-abcdef.json"):
        (tmp_path / name).write_text(json.dumps({"version": 1, "certificate": {"version": 1, "x": "y" * 200_000}}))
    return tmp_path


def said(directory: Path, argv: tuple[str, ...], out: int) -> tuple[int, str]:
    """Run borg-lvm with this standard output; return its status and what it said on standard error."""
    code = (
        "import sys; from borg_lvm.cli import main; from borg_lvm.state import directories, history; "
        f"directories.ABOVE = ({str(directory.parent)!r},); history.DIRECTORY = {str(directory)!r}; "
        "sys.exit(main.main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], stdout=out, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.process
@pytest.mark.skipif(os.geteuid() != 0, reason="the history is root's")
@pytest.mark.parametrize("argv", PRINTING)
def test_a_reader_that_has_gone(directory: Path, argv: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        status, err = said(directory, argv, writer)
    finally:
        os.close(writer)
    if argv == ("report",):  # of a certificate that is damaged
        assert (status, "Traceback" in err) == (64, False)
    else:
        assert (status, err) == (141, "")


@pytest.mark.process
@pytest.mark.skipif(os.geteuid() != 0, reason="the history is root's")
@pytest.mark.parametrize("argv", PRINTING[:-1])
def test_a_disk_that_is_full(directory: Path, argv: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        status, err = said(directory, argv, full.fileno())
    assert (status, err) == (71, "borg-lvm: error: standard output cannot be written: No space left on device\n")
