"""The client of a server: its own program, or, where that is not installed, ours with a client library.

A program of its own in both cases: it can be killed, by the guardian too, and what it has locked ends with it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from borg_lvm.errors import QuiesceError
from borg_lvm.proc import SYSTEM_PATH

OURS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "library_client.py")


@dataclass(frozen=True)
class Client:
    """A server's client: the program, what it is always given, and the library that can take its place.

    `kind` is what our own client calls such a server, and the extra of the package that brings the library.
    """

    program: str
    words: Sequence[str]
    kind: str
    library: str

    def argv(self, *place: str) -> list[str]:
        """Return the command line that connects to a place. Errors: QuiesceError when there is neither."""
        if shutil.which(self.program, path=SYSTEM_PATH):
            # The first option of MySQL's must be the file of others, so the place comes first.
            return [self.program, *place, *self.words]
        if importlib.util.find_spec(self.library) is None:
            raise QuiesceError(
                f"its client {self.program} is not installed",
                remedy=f"install it, or the library {self.library}: pip install 'borg-lvm[{self.kind}]'",
            )
        return [sys.executable, "-I", OURS, self.kind, *place]
