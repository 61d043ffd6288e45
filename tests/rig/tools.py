"""Runs the programs that the rig is made of."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from tests.rig.names import ours


class ToolError(Exception):
    """A program of the rig failed; the text says which and what it told."""


def run(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed."""
    quiet = subprocess.DEVNULL
    done = subprocess.run(command, stdin=quiet, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise ToolError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def change(verb: str, target: str, *options: str) -> str:
    """Run an LVM command that changes things. The target, ``group`` or ``group/volume``, must be of our making."""
    return run(verb, "-q", "-y", *options, ours(target))
