"""No shipped unit is more exposed than SECURITY.md says, by systemd's own count."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
UNITS = sorted(path.name for path in (CHECKOUT / "contrib/systemd").glob("*.service"))
ROW = re.compile(r"^\| (`borg-lvm.*) \| ([0-9.]+) \|$", re.MULTILINE)


def noted() -> dict[str, float]:
    rows = ROW.findall((CHECKOUT / "SECURITY.md").read_text(encoding="utf-8"))
    return {unit: float(number) for units, number in rows for unit in re.findall(r"`([^`]+\.service)`", units)}


def test_each_unit_is_noted() -> None:
    assert sorted(noted()) == UNITS


@pytest.mark.process
@pytest.mark.parametrize("unit", UNITS)
def test_it_is_not_more_exposed_than_noted(unit: str) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    argv = ["systemd-analyze", "security", "--offline=yes", str(CHECKOUT / "contrib/systemd" / unit)]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    found = re.search(r"Overall exposure level for .*: ([0-9.]+) ", said)
    if not found:
        pytest.skip("this systemd-analyze looks at no files")
    assert float(found[1]) <= noted()[unit]
