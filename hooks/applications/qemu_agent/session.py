"""Our end of the program that speaks to a guest's agent (`agent.py`), and of the one that thaws when we are dead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from borg_lvm.plugin_api import AbsentError, BusyError, Intent, QuiesceError, client_process

PROGRAM = os.path.join(os.path.dirname(os.path.realpath(__file__)), "agent.py")
PATIENCE = 10.0
"""Seconds that an agent gets to report its state, and to thaw. A guest that is busy answers within one."""
THAW_PATIENCE = 20.0
"""Seconds that the watchdog's program gets for it, less than the 25 that it may take."""
GRACE = 2.0
"""Seconds by which the program may be later than the agent that it waits for."""


class Session:
    """A connection to an agent, held by a program of its own."""

    def __init__(self, child: client_process.Child, name: str) -> None:
        self._child = child
        self._name = name

    @property
    def intent(self) -> Intent:
        """How the watchdog ends the program: QEMU takes one client at a time."""
        return self._child.intent

    def ask(self, word: str, seconds: float) -> str:
        """Have it ask the agent for its `status`, to `freeze`, to `thaw`; return a state, or how many file systems.

        Raises: AbsentError when the machine does not run; BusyError when the agent is late; QuiesceError.
        """
        self._child.say(f"{word} {seconds:g}\n")
        return self.answer(seconds)

    def answer(self, seconds: float) -> str:
        """Wait for its next answer. Raises: as `ask`."""
        mark, _, words = self._child.line(seconds + GRACE).partition(" ")
        if mark == "ok":
            return words
        message = f"the guest of {self._name}: {words}" if mark in ERRORS else f"the agent's client has failed: {words}"
        raise ERRORS.get(mark, QuiesceError)(message)


ERRORS: dict[str, type[QuiesceError]] = {"late": BusyError, "gone": AbsentError, "error": QuiesceError}


@contextmanager
def opened(way: str, place: str, name: str) -> Iterator[Session]:
    """Connect to an agent by one of the ways of `agent.py`; what is frozen is thawed when the program ends.

    Raises: as `Session.ask`.
    """
    argv = [sys.executable, "-I", "-S", PROGRAM, "session", f"{PATIENCE:g}", way, place]
    with client_process.started(argv, name="the agent's client") as child:
        session = Session(child, name)
        session.answer(PATIENCE)
        yield session


def thawing(way: str, place: str) -> Intent:
    """Return what thaws the guest if it is frozen, when the session has been ended."""
    return Intent((sys.executable, "-I", "-S", PROGRAM, "thaw", f"{THAW_PATIENCE:g}", way, place))
