"""Resuming an application by the commands that were written down: in a process of its own, as the watchdog does."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from borg_lvm.linux import subprocesses
from borg_lvm.plugins.application import Intent
from borg_lvm.state.ledger import LedgerEntry

PROGRAM = os.path.join(os.path.dirname(__file__), "resume_process.py")
TIMEOUT = 60.0
NOTHING = "[]"


def written(intents: Sequence[Intent]) -> str:
    """Return intents as they are handed over and written down: one line."""
    return json.dumps([intent.argv for intent in intents])


def run(ledger: str, name: str, text: str) -> None:
    """Resume an application; it is written into `ledger`, if there is one. Raises: ProgramError with what failed."""
    if text == NOTHING:
        return
    subprocesses.run([sys.executable, "-I", "-S", PROGRAM, ledger, name, text], timeout=TIMEOUT)


def unresumed(entry: LedgerEntry) -> dict[str, str]:
    """Return from a run's ledger the applications that may be quiesced: how to resume each, by name."""
    commands: dict[str, str] = {}
    for step in entry.steps:
        if step["step"] == "quiesce" and step["undo"] != NOTHING:
            commands[str(step["name"])] = str(step["undo"])
        elif step["step"] == "resumed":
            commands.pop(str(step["name"]), None)
    return commands
