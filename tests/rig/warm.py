"""LVM's commands in a warm `lvm` shell for each rig: most of what one takes in a guest is the start of its program."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Sequence

from borg_lvm.snapshots.lvm.shell import AS_ROWS, LvmShell, only_rows

TOLD = {
    "vgcreate": re.compile(r'Volume group "\S+" successfully created'),
    "lvcreate": re.compile(r'Logical volume "\S+" created\.'),
    "vgremove": re.compile(r'Volume group "\S+" successfully removed'),
}
"""What a command says when it has done all of its work: the shell gives no exit status."""
PATIENCE = 120.0  # seconds
_shells: dict[str, tuple[subprocess.Popen[bytes], LvmShell]] = {}


def failed(argv: Sequence[str]) -> str:
    """Run a command of those above; return what it said if it has not done its work, else nothing."""
    said = _shell().run(argv)
    done = any(TOLD[argv[0]].fullmatch(line) for line in said)
    return "" if done else " / ".join(said) or "it said nothing"


def names(*words: str) -> list[str] | None:
    """Return the full names of the volumes that `lvs` lists; None if it says anything else."""
    rows = only_rows(_shell().run(["lvs", "-a", *AS_ROWS, "-o", "lv_full_name", *words]), ["lv_full_name"])
    return None if rows is None else [row["lv_full_name"] for row in rows]


def serves() -> bool:
    """Whether a shell is like programs: not with udev and LVM's daemons, which a test may start and end meanwhile."""
    return "LVM_SYSTEM_DIR" in os.environ and os.environ.get("DM_DISABLE_UDEV") == "1"


def pids() -> set[int]:
    """Return the process ids of all shells: they are the rigs', and not left behind by anybody."""
    return {process.pid for process, _ in _shells.values()}


def end() -> None:
    """End the shell of the rig whose environment this is."""
    process, _ = _shells.pop(os.environ["LVM_SYSTEM_DIR"], (None, None))
    if not process:
        return
    with process, contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
        process.communicate(b"exit\n", timeout=5)
    process.kill()


def _shell() -> LvmShell:
    own = os.environ["LVM_SYSTEM_DIR"]
    if own not in _shells or _shells[own][1].has_ended():
        end()
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            ["lvm"], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, bufsize=0, cwd="/", start_new_session=True
        )
        _shells[own] = process, LvmShell(process, PATIENCE)
    return _shells[own][1]
