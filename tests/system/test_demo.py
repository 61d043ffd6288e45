"""The demo ends well, and shows what it promises. Its parts are tried in tests/unit/project/test_demo.py."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.demo.result import HEADS
from tests.lab.paths import CHECKOUT
from tests.system.support.runs import program


@pytest.mark.limit(900)
def test_the_demo_ends_well() -> None:
    argv = [sys.executable, "-m", "tests.demo"]
    environ = program.environment({"BORG_LVM_LAB_COLUMNS": "80"})
    done = subprocess.run(argv, cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False, timeout=890)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "$ borg-lvm run -- borg create ::instant /srv/shipped /srv/shop" in done.stdout
    assert list(HEADS[1:]) in [re.split(" {3,}", line.strip()) for line in done.stdout.splitlines()]
    assert row(done.stdout, "orders missing")[2] == row(done.stdout, "orders stored twice")[2] == "0"
    assert row(done.stdout, "orders missing")[0] != "0"


def row(out: str, name: str) -> list[str]:
    """Return the three values of a row of the table."""
    (line,) = (line for line in out.splitlines() if re.match(rf"  {name} +\S", line))
    return re.split(" {3,}", line.strip())[-3:]
