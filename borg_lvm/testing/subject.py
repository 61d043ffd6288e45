"""What the author of a plugin hands to the contract: how the application is reached without the plugin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

from borg_lvm.plugins.application import Application


class Subject(ABC):
    """One application that really runs, and how a test gets at it.

    What returns None by itself says that this cannot happen to the application; the tests for it are then skipped.
    """

    stops_writers = True
    """Whether the application's writers wait while it is quiesced. A checkpoint, for one, stops nobody."""

    @abstractmethod
    def make(self, deadline: float) -> Application:
        """Return a new object of the plugin's, which may hold still for so many seconds."""

    @abstractmethod
    def write(self, seconds: float) -> bool:
        """Have a client write something; return whether the application has taken it within so many seconds."""

    @abstractmethod
    def keeps(self) -> Sequence[str]:
        """Return every path that a backup of the application needs, found without the plugin."""

    @abstractmethod
    def gone(self) -> AbstractContextManager[object]:
        """Take the application away for the length of the block: end its server."""

    def busy(self) -> AbstractContextManager[object] | None:
        """Keep the application from being quiesced for the length of the block: hold a lock, run a long statement."""
        return None

    def stopped(self) -> AbstractContextManager[object] | None:
        """Have the application paused for the length of the block, as an administrator would."""
        return None

    def damaged(self) -> AbstractContextManager[object] | None:
        """Have wrong files at the application's paths for the length of the block, as a bad snapshot would show them.

        For a plugin that has `verify`. Nobody asks the application anything meanwhile.
        """
        return None

    def lose(self) -> bool:
        """Set the application going behind the plugin's back: end its session, resume it. False: it cannot be."""
        return False
