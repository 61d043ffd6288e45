"""Hears what a plugin does while its application is quiesced, by Python's audit events (PEP 578)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = {
    "import": "imports",
    "socket.connect": "connects to",
    "socket.getaddrinfo": "looks up",
    "socket.gethostbyname": "looks up",
    "os.mkdir": "makes",
    "os.rename": "renames",
    "os.remove": "removes",
    "os.truncate": "truncates",
    "os.link": "links",
    "os.symlink": "links",
}


class Spy:
    """Listens for the rest of the process's life, since an audit hook cannot be removed; notes only when asked."""

    def __init__(self) -> None:
        self._heard: list[str] | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """Give the list of what is done in the block that must not be."""
        heard: list[str] = []
        self._heard = heard
        try:
            yield heard
        finally:
            self._heard = None

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._heard is None:
            return
        if event == "open":
            path, _, flags = arguments
            # A number is a descriptor, which was opened before: a pipe to a program, for one.
            if isinstance(flags, int) and flags & WRITING and not isinstance(path, int) and not _is_memory(path):
                self._heard.append(f"opens {path!r} for writing")
        elif event in FORBIDDEN:
            self._heard.append(f"{FORBIDDEN[event]} {arguments[-1] if 'socket' in event else arguments[0]!r}")


def _is_memory(path: object) -> bool:
    """Whether a path is a device, or the kernel's own: writing there reaches no disk."""
    if isinstance(path, int):  # it is open already: a pipe, which becomes a file object
        return True
    text = os.fsdecode(path) if isinstance(path, str | bytes) else ""
    return text.startswith(("/dev/", "/proc/", "/sys/", "/run/"))
