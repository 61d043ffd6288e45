"""The client of a server: its own program, or, where that is not installed, ours with a client library.

A program of its own in both cases: it can be killed, by the watchdog too, and what it has locked ends with it.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from borg_lvm.plugin_api import SYSTEM_PATH, Account, QuiesceError, client_process

MEMORY = 256 << 20
"""How many bytes of data a client may have: it keeps an answer until it is whole, and a server may never end one."""
OURS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "library_client.py")


@dataclass(frozen=True)
class Client:
    """A server's client: the program, what it is always given, and the library that can take its place.

    `kind` is what our own client calls such a server; `package` is what pip knows the library as.
    """

    program: str
    words: Sequence[str]
    kind: str
    library: str
    package: str

    def started(
        self, *place: str, env: Mapping[str, str], user: Account | None = None
    ) -> AbstractContextManager[client_process.Child]:
        """Connect to a place, as a user of the operating system; the session ends with the block.

        Raises: QuiesceError when there is neither program nor library; ProgramError when it does not start.
        """
        if shutil.which(self.program, path=SYSTEM_PATH):
            # The first option of MySQL's must be the file of others, so the place comes first.
            return client_process.started([self.program, *place, *self.words], env=env, user=user, memory=MEMORY)
        if importlib.util.find_spec(self.library) is None:
            remedy = f"install it, or the library: {self._installs_library()}"
            raise QuiesceError(f"its client {self.program} is not installed", remedy=remedy)
        # It becomes that user by itself: who may not read our Python could not start it.
        who = [f"--user={user.uid}:{user.gid}"] if user else []
        argv = [sys.executable, "-I", OURS, self.kind, *who, *place]
        return client_process.started(argv, name=self.library, env=env, memory=MEMORY)

    def _installs_library(self) -> str:
        """Return the command that installs the library for our Python; pip refuses to add to a distribution's own."""
        if sys.prefix == sys.base_prefix:
            return f"apt-get install python3-{self.library} (on Debian)"
        return shlex.join([f"{os.path.dirname(sys.executable)}/pip", "install", self.package])
