"""The Python of a script, wherever the checkout lies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.alone import started_by


@pytest.mark.process
@pytest.mark.parametrize("directory", ["plain", "borg lvm ü", "it's", "long" * 40])
def test_a_script_is_run_by_its_python(tmp_path: Path, directory: str) -> None:
    python, script = tmp_path / directory / "python", tmp_path / "script"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    script.write_text(f"{started_by(python)}import sys\nprint(sys.executable, sys.argv[1:])\n")
    script.chmod(0o755)
    done = subprocess.run([script, "one two", "ü"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{python} ['one two', 'ü']\n"
