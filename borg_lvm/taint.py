"""Having the plugins mark what was saved from a lost snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from borg_lvm import plugins, proc
from borg_lvm.command import NOTHING, Invocation, OnTainted, Tainted
from borg_lvm.errors import BorgLvmError

TIMEOUT = 1800.0
"""Seconds for each program: a repository may be large and far away."""


def mark(hooks: tuple[str, ...], invocation: Invocation, wish: OnTainted, begin: float, end: float) -> list[str]:
    """Have what the command saved from `begin` to `end` (Unix time) marked; returns what there is to tell of it.

    Nothing is raised: the run has failed already, and what matters is that somebody is told.
    """

    def run(argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
        return proc.run(argv, timeout=TIMEOUT, place=proc.Place({**invocation.env, **env}, invocation.cwd))

    tainted = Tainted(begin, end, wish, run)
    by_hand = "look for what it saved and remove it by hand"
    try:
        told = plugins.taint(hooks, invocation, tainted)
    except proc.ProgramError as error:
        return [f"what was saved could not be marked: {error.brief}; {by_hand}", *error.details]
    except BorgLvmError as error:
        return [f"what was saved could not be marked: {error.message}; {by_hand}", *error.details]
    except Exception as error:  # a stranger's plugin may fail in any way
        return [f"what was saved could not be marked: {type(error).__name__}: {error}; {by_hand}"]
    return told if told is not None else [f"borg-lvm does not know what {invocation.program} saves: {by_hand}"]
