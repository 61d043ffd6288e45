"""The fronts' shell script beside borg's own parser: what it hands to plain borg must save no files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bin" / "borg-lvm-borg"
PLAIN = "plain"


class Front:
    """The script with stand-ins for borg and borg-lvm, in a directory of their own."""

    def __init__(self, top: Path) -> None:
        top.mkdir()
        for name, says in (("borg", PLAIN), ("borg-lvm", "frozen")):
            (top / name).write_text(f"#!/bin/sh\necho {says}\n")
            (top / name).chmod(0o755)
        self.script = top / "borg-lvm-borg"
        self.script.write_bytes(SCRIPT.read_bytes())
        self.script.chmod(0o755)
        self.env = {"PATH": f"{top}:{os.defpath}", "BORG_LVM_BORG": str(top / "borg")}

    def is_plain(self, argv: list[str]) -> bool:
        """Tell whether a line becomes plain borg, without a look at it by borg-lvm."""
        done = subprocess.run([self.script, *argv], env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (argv, done)
        return done.stdout.strip() == PLAIN
